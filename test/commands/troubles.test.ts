import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { silentLogger } from '../../src/base/log.js';
import type { Config } from '../../src/config/config.js';
import { STREAM_TRANSITIONS } from '../../src/protocol/states.js';
import { Engine } from '../../src/commands/engine.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { assertTransitions } from '../support/transitions.js';
import { waitFor } from '../support/wait.js';

type Line = Readonly<Record<string, unknown>>;

const CHILD = fileURLToPath(new URL('../support/engine-child.js', import.meta.url));

/** The daemon in a process of its own, whose files may be limited in size as those on a full disk are. */
class LimitedDaemon {
  readonly lines: Line[] = [];
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    if (child.stderr === null) throw new Error('the child has no log');
    createInterface({ input: child.stderr }).on('line', (line) => {
      this.lines.push(JSON.parse(line) as Line);
    });
  }

  static async start(config: Config): Promise<LimitedDaemon> {
    const path = join(config.stateDir, 'child-config.json');
    await writeFile(path, JSON.stringify({ ...config, logLevel: 'info' }));
    // Without the trap the first write beyond the limit would end the process.
    const script = `trap '' XFSZ; exec "$0" "$1" "$2"`;
    const child = spawn('bash', ['-c', script, process.execPath, CHILD, path], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const daemon = new LimitedDaemon(child);
    await once(createInterface({ input: child.stdout }), 'line');
    return daemon;
  }

  told(event: string): Line[] {
    return this.lines.filter((line) => line['event'] === event);
  }

  /** Soft limit: what is written beyond it fails with EFBIG. */
  limitFiles(bytes: number | 'unlimited'): void {
    const { status, stderr } = spawnSync('prlimit', [
      '--pid',
      String(this.#child.pid),
      `--fsize=${bytes}:`,
    ]);
    assert.equal(status, 0, stderr.toString());
  }

  async stop(): Promise<void> {
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    await ended;
  }
}

describe('trouble that goes away', () => {
  /** Of all streams, from the first test on. */
  const steps: Line[] = [];
  let mesh: Mesh;
  let stateDir: string;
  let config: Config;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v int)' });
    await mesh.query('n1', 'INSERT INTO t SELECT i, 0 FROM generate_series(1, 2000) i');
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    config = mesh.config(stateDir);
    const engine = await Engine.open(config, { log: silentLogger(), mode: 'command' });
    await engine.run('mtree-init', {}, testContext(stateDir));
    await engine.run('mtree-build', { table: 't' }, testContext(stateDir));
    await engine.close();
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  const write = (): Promise<unknown> => mesh.query('n1', 'UPDATE t SET v = v + 1');

  async function diffIsMatch(): Promise<void> {
    const engine = await Engine.open(config, { log: silentLogger(), mode: 'command' });
    try {
      const result = await engine.run('mtree-table-diff', { table: 't' }, testContext(stateDir));
      assert.equal(result.verdict, 'match');
      await mesh.driftSql('n2', 'UPDATE t SET v = v + 1 WHERE id = 7');
      const other = await engine.run('mtree-table-diff', { table: 't' }, testContext(stateDir));
      assert.deepEqual([other.verdict, other.differences], ['drift', { 'n1/n2': 1 }]);
      await mesh.driftSql('n2', 'UPDATE t SET v = v - 1 WHERE id = 7');
    } finally {
      await engine.close();
    }
  }

  it('D4: a full disk is one event, backs off, and is over when there is room', async () => {
    const daemon = await LimitedDaemon.start(config);
    try {
      await waitFor(
        () => daemon.told('pipeline_state').filter(({ to }) => to === 'streaming').length === 2,
        { what: 'the streams' },
      );
      daemon.limitFiles(4096);
      await write();
      await waitFor(() => daemon.told('pipeline_failed').length > 0, { what: 'the failure' });
      const from = daemon.lines.length;
      // Time enough for a loop without a pause to fill a log.
      for (let turn = 0; turn < 8; turn++) {
        await write();
        await mesh.waitForReplication();
      }
      await waitFor(() => daemon.told('pipeline_state').some(({ to }) => to === 'waiting'), {
        what: 'a stream to wait',
      });
      const failures = daemon.told('pipeline_failed').length;
      // Three of each node, and again where something could be stored in between.
      assert.ok(failures <= 12, `${failures} events`);
      assert.ok(daemon.lines.length - from < 60, `${daemon.lines.length - from} lines`);
      daemon.limitFiles('unlimited');
      await waitFor(
        () => {
          const states = new Map(
            daemon.told('pipeline_state').map(({ node, to }) => [String(node), to]),
          );
          return [...states.values()].every((to) => to === 'streaming');
        },
        { what: 'the streams to go on', timeoutMs: 60_000 },
      );
    } finally {
      await daemon.stop();
      steps.push(...daemon.told('pipeline_state'));
    }
    await diffIsMatch();
  });

  it('D15: a publication of ours that somebody drops is made again, and what it missed is read', async () => {
    const daemon = await LimitedDaemon.start(config);
    try {
      await waitFor(
        () => daemon.told('pipeline_state').filter(({ to }) => to === 'streaming').length === 2,
        { what: 'the streams' },
      );
      await mesh.query('n1', 'DROP PUBLICATION aced_demo');
      await write();
      await waitFor(() => daemon.told('stream_gap').some(({ node }) => node === 'n1'), {
        what: 'the gap to be noticed',
        timeoutMs: 60_000,
      });
      await waitFor(
        async () =>
          (
            await mesh.query(
              'n1',
              "SELECT count(*) FROM pg_publication_tables WHERE pubname = 'aced_demo'",
            )
          )[0]?.[0] === '1',
        { what: 'the publication', timeoutMs: 60_000 },
      );
    } finally {
      await daemon.stop();
      steps.push(...daemon.told('pipeline_state'));
    }
    await diffIsMatch();
  });

  it('has logged the steps of a stream, and none that there is not', () => {
    const seen = assertTransitions(steps, STREAM_TRANSITIONS);
    for (const step of ['stopped connecting', 'connecting streaming', 'streaming waiting']) {
      assert.ok(seen.includes(step), step);
    }
    assert.ok(seen.includes('waiting connecting') && seen.includes('streaming stopped'));
  });
});
