import { spawn, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import type { ServerUser } from './binaries.js';

/**
 * Reads `pid <n>` and `done`. When its input ends without `done`, the process that started it is
 * gone, for whatever reason: it ends that process group and removes the directory.
 */
const SCRIPT = `
pid=
while read -r word value; do
  case $word in
    pid) pid=$value ;;
    done) exit 0 ;;
  esac
done
if [ -n "$pid" ]; then
  kill -s QUIT -- "-$pid" 2>/dev/null
  left=50
  while [ $left -gt 0 ] && kill -s 0 -- "-$pid" 2>/dev/null; do left=$((left - 1)); sleep 0.1; done
  kill -s KILL -- "-$pid" 2>/dev/null
fi
rm -rf -- "$1"
`;

/** Cleans up after this process even if this process is killed with SIGKILL. */
export class Guardian {
  readonly #child: ChildProcess;

  /** `directory` is removed when this process ends without a word. */
  constructor(directory: string, user: ServerUser | undefined) {
    this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'sh', directory], {
      ...user,
      cwd: '/',
      // A session of its own: Ctrl-C in the terminal must not reach it.
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
    });
    this.#child.unref();
    const input = this.#child.stdin as Socket;
    input.on('error', () => undefined);
    input.unref();
  }

  /** The leader of the process group to end. Undefined: nothing runs at the moment. */
  watch(pid: number | undefined): void {
    this.#child.stdin?.write(`pid ${pid ?? ''}\n`);
  }

  /** From now on nobody cleans up after this process. */
  release(): void {
    this.#child.stdin?.end('done\n');
  }
}
