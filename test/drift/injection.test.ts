import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { validateEvent } from './event-schema.js';
import { INJECTIONS, ITEMS_DDL, prepareItems } from './injections.js';

type Line = Readonly<Record<string, unknown>>;

describe('drift of each class is found', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;
  const lines: Line[] = [];

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      settings: { track_commit_timestamp: 'on', wal_retrieve_retry_interval: '200ms' },
      tables: ITEMS_DDL,
    });
    await prepareItems(mesh);
    stateDir = await scratchDirectory();
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as Line),
    });
    const config = mesh.config(stateDir, {
      drift: { eventsHaveKeys: true },
      scrub: { budget: 1, intervalMs: 1_000, maxActiveBackends: 100 },
    });
    engine = await Engine.open(config, { log, mode: 'daemon' });
    await engine.run('mtree-init', {}, testContext(stateDir));
    await engine.run('mtree-build', { table: 'items' }, testContext(stateDir));
    await verdictIs('match');
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  const verdictIs = (expected: string): Promise<void> =>
    waitFor(
      async () => {
        const { tables } = await engine.run('drift-list', {}, testContext(stateDir));
        return tables[0]?.verdict === expected;
      },
      { what: `the verdict ${expected}`, timeoutMs: 30_000 },
    );

  for (const injection of INJECTIONS) {
    it(injection.name, async () => {
      const from = lines.length;
      const told = (event: string): Line | undefined =>
        lines.slice(from).find((line) => line['event'] === event);
      await injection.inject(mesh);
      await waitFor(() => told('drift_opened') !== undefined, {
        what: 'the event',
        timeoutMs: 60_000,
      });
      const opened = told('drift_opened') ?? {};
      const rows =
        injection.rows ?? Number((await mesh.query('n1', 'SELECT count(*) FROM items'))[0]?.[0]);
      assert.deepEqual([opened['kind'], opened['rows']], [injection.kind, rows]);
      if (injection.cause !== undefined) assert.equal(opened['cause'], injection.cause);
      if (injection.takenOn !== undefined) {
        const { [injection.takenOn]: origin } = opened['origin'] as Record<string, string>;
        const { [injection.takenOn]: xid } = opened['xid'] as Record<string, string>;
        assert.equal(origin, 'mesh_drift');
        assert.match(String(xid), /^[0-9]+$/);
        assert.equal(typeof opened['detectedAfterMs'], 'number');
      }
      if (injection.agree.length > 0) assert.deepEqual(opened['agree'], injection.agree);
      for (const event of injection.alsoTold ?? []) assert.ok(told(event) !== undefined, event);
      await injection.mend(mesh);
      await waitFor(() => told('drift_resolved') !== undefined, {
        what: 'the end',
        timeoutMs: 60_000,
      });
      await verdictIs('match');
      const events = lines.slice(from).filter(({ event }) => String(event).startsWith('drift_'));
      for (const line of events)
        assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
      assert.equal(
        events.filter(({ event }) => event === 'drift_opened').length,
        1,
        'one incident, no more',
      );
    });
  }

  it('hints say what the subscription had trouble with', () => {
    const hints = lines.flatMap(({ hints: some }) => (some ?? []) as string[]);
    assert.ok(
      hints.some((hint) => /^mesh_n2_from_n1 apply_error_count \+\d+ on n2$/.test(hint)),
      hints.join('; '),
    );
  });
});
