import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { waitFor } from './wait.js';

/** Prints each datagram as a line, its newlines as tabs. Perl is part of every Debian; Node.js has no such sockets. */
const READER = `
use strict; use Socket; $| = 1;
socket(my $s, PF_UNIX, SOCK_DGRAM, 0) or die $!;
bind($s, sockaddr_un($ARGV[0])) or die $!;
print "bound\\n";
while (defined(recv($s, my $text, 65536, 0))) { $text =~ tr/\\n/\\t/; print "$text\\n"; }
`;

/** Stands for systemd's end of sd_notify(3): a real datagram socket, read by a process of its own. */
export class NotifySocket {
  readonly path: string;
  readonly #reader: ChildProcess;
  #text = '';

  private constructor(path: string) {
    this.path = path;
    this.#reader = spawn('perl', ['-e', READER, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    this.#reader.stdout?.setEncoding('utf8').on('data', (text: string) => (this.#text += text));
  }

  static async open(path: string): Promise<NotifySocket> {
    const socket = new NotifySocket(path);
    await waitFor(() => socket.#text.startsWith('bound\n'), { what: 'the reader to listen' });
    return socket;
  }

  /** Messages so far, each a list of assignments. */
  get messages(): readonly (readonly string[])[] {
    return this.#text
      .split('\n')
      .slice(1, -1)
      .map((line) => line.split('\t'));
  }

  /** Waits for a message after the first `from` that has this assignment. */
  async has(assignment: string | RegExp, from = 0): Promise<void> {
    const fits = (one: string): boolean =>
      typeof assignment === 'string' ? one === assignment : assignment.test(one);
    await waitFor(() => this.messages.slice(from).some((message) => message.some(fits)), {
      what: `systemd to be told ${String(assignment)}; it was told ${JSON.stringify(this.messages)}`,
      timeoutMs: 30_000,
    });
  }

  /** Stops reading without closing: what comes then stays in the queue. */
  pause(): void {
    this.#reader.kill('SIGSTOP');
  }

  async close(): Promise<void> {
    const closed = once(this.#reader, 'close');
    this.#reader.kill('SIGKILL');
    await closed;
  }
}
