import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { build } from '../../src/commands/build.js';
import { Cluster } from '../../src/cluster/cluster.js';
import type { ConditionChange } from '../../src/cluster/conditions.js';
import { diffTree } from '../../src/commands/diff-tree.js';
import { initialise } from '../../src/commands/init.js';
import { WalGuard } from '../../src/cluster/wal-guard.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const LIMIT_BYTES = 4_000_000;

interface LogLine {
  readonly event?: string;
  readonly node?: string;
}

describe('the guard of the write-ahead log', () => {
  let mesh: Mesh;
  let stateDir: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    stateDir = await scratchDirectory();
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  it('warns, drops the slot at the limit, also one that is being made, and follows the node again', async () => {
    const lines: LogLine[] = [];
    const events = (event: string): LogLine[] =>
      lines.filter((line) => line.event === event && line.node === 'n1');
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as LogLine),
    });
    const config = mesh.config(stateDir, { stream: { maxSlotWalBytes: LIMIT_BYTES } });
    const cluster = new Cluster(config, log);
    const lags: ConditionChange[] = [];
    cluster.conditions.listen((change) => lags.push(change));
    const context = testContext(stateDir);
    let guard: WalGuard | null = null;
    const fill = async (megabytes: number): Promise<void> => {
      await mesh.query(
        'n1',
        `SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, ${megabytes})`,
      );
    };
    // What is told before the slot is asked for says nothing of where it begins to hold log back.
    const slotIs = async (condition: string): Promise<boolean> => {
      const sql = `SELECT ${condition} FROM pg_replication_slots WHERE slot_name = $1`;
      return (await mesh.query('n1', sql, [config.slotName]))[0]?.[0] === 't';
    };
    try {
      await initialise(cluster, context);
      await build(cluster, { table: 't' }, context);
      // Not before: had it seen this slot being made, it would be patient with it.
      guard = new WalGuard(cluster, 20);
      const made = events('slot_created').length;
      // An open transaction holds log back in every slot, however fast it is read.
      await mesh.node('n1').session('app', async (query) => {
        await query("BEGIN; INSERT INTO t VALUES (1, 'held')");
        await fill(3);
        await waitFor(() => lags.some(({ status }) => status === 'open'), { what: 'a warning' });
        const [warned] = lags;
        assert.deepEqual([warned?.state.kind, warned?.state.subject], ['slot_lags', 'n1']);
        const bytesLeft = Number(warned?.state.facts['bytesLeft']);
        assert.ok(bytesLeft > 0 && bytesLeft < LIMIT_BYTES / 2);
        await fill(2);
        await waitFor(() => events('slot_waits').length > 0, { what: 'the new slot to wait' });
        assert.equal(events('slot_over_limit').length, 1);
        await waitFor(() => slotIs('active AND confirmed_flush_lsn IS NULL'), {
          what: 'the new slot to hold log back',
        });
        // The new one waits and holds log back as well: making it is given up, and begun again.
        await fill(5);
        await waitFor(() => events('slot_over_limit').length === 2, { what: 'a second drop' });
        await waitFor(() => events('slot_waits').length > 1, { what: 'the third slot to wait' });
        const isUnder = `pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < ${LIMIT_BYTES}`;
        await waitFor(() => slotIs(isUnder), {
          what: 'the third slot to begin at the end of the log',
        });
        await query('COMMIT');
      });
      await waitFor(() => events('slot_created').length > made, { what: 'the new slot' });
      await mesh.waitForReplication();
      assert.equal((await diffTree(cluster, { table: 't' }, context)).verdict, 'match');
      assert.equal(events('slot_over_limit').length, 2);
      assert.equal(events('slot_created').length, made + 1);
      await waitFor(() => lags.at(-1)?.status === 'over', { what: 'that the warning is over' });
    } finally {
      await guard?.stop();
      await cluster.close();
    }
  });
});
