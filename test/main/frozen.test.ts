import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startProgram } from '../cli/program.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const SLOT = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'aced_demo' AND active";

/** More than the buffers of both ends of a connection hold. */
const MESSAGES = 400;
const MESSAGE_BYTES = 100_000;

describe('a daemon that is frozen', () => {
  let mesh: Mesh;
  let root: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    root = await mkdtemp(join(tmpdir(), 'aced-frozen-'));
    await mesh.writeServiceFile(root);
  });

  after(async () => {
    await mesh.stop();
    await rm(root, { recursive: true });
  });

  function start(program: 'aced' | 'acectl', args: readonly string[]) {
    return startProgram(program, args, {
      cwd: root,
      env: {
        HOME: root,
        PGSERVICEFILE: join(root, 'pg_service.conf'),
        ACED_CLUSTER: 'demo',
        ACED_STATE_DIR: join(root, 'state'),
        ACED_SOCKET: join(root, 'aced.sock'),
        ACED_STREAM_TCP_USER_TIMEOUT_MS: '1000',
      },
    });
  }

  async function acectl(...args: string[]): Promise<void> {
    const ended = await start('acectl', args).ended;
    assert.equal(ended.exitCode, 0, ended.stdout + ended.stderr);
  }

  it('is let go of by the servers, and goes on where it was once it thaws', async () => {
    const { child, ended } = start('aced', []);
    let log = '';
    child.stdout?.on('data', (text: string) => (log += text));
    await waitFor(() => log.includes('"event":"ready"'), { what: 'aced to be ready' });
    await acectl('mtree', 'init');
    await acectl('mtree', 'build', 't');
    const [walSender] = (await mesh.query('n1', SLOT))[0] ?? [];
    assert.ok(walSender != null);
    const isThere = async (): Promise<boolean> => {
      const sql = 'SELECT 1 FROM pg_stat_replication WHERE pid = $1';
      return (await mesh.query('n1', sql, [walSender])).length > 0;
    };
    // The server itself never gives up on a client that does not read.
    await mesh.query('n1', 'ALTER SYSTEM SET wal_sender_timeout = 0');
    await mesh.query('n1', 'SELECT pg_reload_conf()');
    child.kill('SIGSTOP');
    try {
      await mesh.query(
        'n1',
        `SELECT pg_logical_emit_message(true, 'much', repeat('x', ${MESSAGE_BYTES}))
           FROM generate_series(1, ${MESSAGES})`,
      );
      await mesh.query('n1', "INSERT INTO t VALUES (1, 'meanwhile')");
      assert.ok(await isThere());
      await waitFor(async () => !(await isThere()), {
        what: 'the server to end the walsender',
        timeoutMs: 20_000,
      });
    } finally {
      child.kill('SIGCONT');
    }
    await mesh.waitForReplication();
    await acectl('mtree', 'table-diff', 't');
    assert.ok(!log.includes('"event":"stream_gap","node":"n1","tables":1'), log);
    child.kill('SIGTERM');
    assert.equal((await ended).exitCode, 0);
  });
});
