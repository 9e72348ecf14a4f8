import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import { largestPart, pairConditions, reachOf } from '../../src/drift/reach.js';
import type { TableVerdict } from '../../src/protocol/drift.js';
import type { TableEdge } from '../../src/replication/table-copies.js';
import type { Edge } from '../../src/replication/topology.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { validateEvent } from './event-schema.js';

type Line = Readonly<Record<string, unknown>>;

const TABLES = ['whole', 'filtered', 'narrow', 'inserts', 'nowhere', 'late'];

/** What the users' own publications leave out is not drift, and neither is it equal. */
describe('what publications leave out on purpose', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;
  const lines: Line[] = [];

  before(async () => {
    mesh = await startMesh({
      nodes: 3,
      tables: TABLES.map(
        (table) => `CREATE TABLE ${table} (id int PRIMARY KEY, v text, secret text)`,
      ).join(';'),
    });
    await mesh.queryAll(
      'ALTER PUBLICATION mesh DROP TABLE filtered, narrow, inserts, nowhere, late',
    );
    // Nothing of `filtered` and `narrow` gets to n3 as a whole; `inserts` to nobody.
    await mesh.queryAll(`
      ALTER PUBLICATION mesh ADD TABLE narrow (id, v);
      CREATE PUBLICATION filtering FOR TABLE filtered WHERE (id < 100);
      CREATE PUBLICATION inserting FOR TABLE inserts WITH (publish = 'insert');
      CREATE PUBLICATION all_of_it FOR TABLE filtered;`);
    for (const [to, from] of pairs()) {
      const more = to === 'n3' ? 'filtering, inserting' : 'all_of_it, inserting';
      await mesh.query(
        to,
        `ALTER SUBSCRIPTION mesh_${to}_from_${from} ADD PUBLICATION ${more} WITH (copy_data = false)`,
      );
    }
    stateDir = await scratchDirectory();
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as Line),
    });
    const config = mesh.config(stateDir, { drift: { eventsHaveKeys: true } });
    engine = await Engine.open(config, { log, mode: 'daemon' });
    await engine.run('mtree-init', {}, testContext(stateDir));
    for (const table of TABLES) await engine.run('mtree-build', { table }, testContext(stateDir));
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  function pairs(): [string, string][] {
    return mesh.names.flatMap((to) =>
      mesh.names.filter((from) => from !== to).map((from): [string, string] => [to, from]),
    );
  }

  async function verdict(table: string): Promise<TableVerdict | undefined> {
    const { tables } = await engine.run('drift-list', {}, testContext(stateDir));
    return tables.find((one) => one.table === `public.${table}`);
  }

  const waitForVerdict = (table: string, expected: string, reason = ''): Promise<void> =>
    waitFor(
      async () => {
        const seen = await verdict(table);
        return seen?.verdict === expected && (seen.reason ?? '').includes(reason);
      },
      { what: `${table} to be ${expected} ${reason}`, timeoutMs: 30_000 },
    );

  const drift = (): Line[] => lines.filter(({ event }) => event === 'drift_opened');
  const told = (subject: string, status: string): Line | undefined =>
    lines.find((line) => line['subject'] === subject && line['status'] === status);

  it('is known for each table, shown, and told as coverage', async () => {
    await waitForVerdict('whole', 'match');
    await waitForVerdict('filtered', 'unverified', 'not compared on n3');
    await waitForVerdict('narrow', 'unverified', 'leaves out on purpose: columns');
    await waitForVerdict('inserts', 'unverified', 'some operations');
    await waitForVerdict('nowhere', 'unverified', 'no subscription');
    await waitFor(() => told('public.filtered', 'open') !== undefined, { what: 'the event' });
    for (const line of lines.filter(({ about }) => about !== undefined)) {
      assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
    }
    assert.match(String(told('public.filtered', 'open')?.['reason']), /n3.*rows by a filter/);
  });

  it('is no drift; among the nodes that get all of it, it is', async () => {
    await mesh.query('n1', "INSERT INTO filtered SELECT i, 'v' FROM generate_series(1, 200) i");
    await mesh.query('n1', "INSERT INTO narrow SELECT i, 'v', 's' FROM generate_series(1, 200) i");
    await mesh.query('n2', "INSERT INTO inserts SELECT i, 'v' FROM generate_series(1, 200) i");
    await mesh.query('n2', "UPDATE inserts SET v = 'other'");
    await mesh.query('n3', "INSERT INTO nowhere SELECT i, 'v' FROM generate_series(1, 200) i");
    await mesh.waitForReplication();
    // What is judged after it has been judged, too.
    await mesh.driftSql('n2', "UPDATE filtered SET v = 'drifted' WHERE id = 150");
    await waitFor(() => drift().length > 0, { what: 'the drift' });
    assert.deepEqual(
      drift().map(({ table, keys, agree }) => [table, keys, agree]),
      [['public.filtered', [['150']], [['n1'], ['n2']]]],
    );
    await mesh.driftSql('n2', "UPDATE filtered SET v = 'v' WHERE id = 150");
    await waitForVerdict('filtered', 'unverified', 'not compared on n3');
  });

  it('counts again when the publication sends all', async () => {
    await mesh.queryAll('ALTER PUBLICATION filtering SET TABLE filtered');
    await waitFor(() => drift().length > 1, { what: 'what n3 never got', timeoutMs: 30_000 });
    const last = drift().at(-1);
    assert.deepEqual(
      [last?.['table'], last?.['rows'], last?.['agree']],
      ['public.filtered', 101, [['n1', 'n2'], ['n3']]],
    );
    await waitFor(() => told('public.filtered', 'over') !== undefined, { what: 'that it is over' });
  });

  it('a table that a subscription has never heard of is starved, not drifted', async () => {
    await mesh.queryAll('ALTER PUBLICATION mesh ADD TABLE late');
    await mesh.query('n1', "INSERT INTO late VALUES (1, 'v')");
    await waitForVerdict('late', 'starved', 'REFRESH');
    const refresh = 'REFRESH PUBLICATION WITH (copy_data = false)';
    // On two of the three: these are compared from then on.
    for (const [to, from] of pairs().filter(([one]) => one !== 'n3')) {
      await mesh.query(to, `ALTER SUBSCRIPTION mesh_${to}_from_${from} ${refresh}`);
    }
    await waitFor(() => drift().some(({ table }) => table === 'public.late'), {
      what: 'the row that was sent before it was listened to',
      timeoutMs: 30_000,
    });
    assert.deepEqual(drift().at(-1)?.['agree'], [['n1'], ['n2']]);
  });
});

describe('which nodes are meant to have the same', () => {
  const edge = (from: string, to: string, originMode: Edge['originMode'] = 'none'): Edge => ({
    from,
    to,
    originMode,
    subscription: `${from}_${to}`,
    slot: '',
    origin: '',
    isEnabled: true,
    isActive: true,
    kind: 'native',
    publications: [],
  });
  const carries = (
    one: Edge,
    more: Partial<Pick<TableEdge, 'state' | 'restriction'>> = {},
  ): Omit<TableEdge, 'asked'> => ({
    edge: one,
    table: 't',
    state: 'applied',
    restriction: '',
    ...more,
  });
  const NODES = ['n1', 'n2', 'n3', 'n4'];
  const chain = [edge('n1', 'n2', 'any'), edge('n2', 'n3', 'any')];
  const why = (edges: readonly Edge[], ofTable: readonly Omit<TableEdge, 'asked'>[]): string =>
    [...reachOf(NODES, edges, ofTable)].map(([node, { why }]) => `${node} ${why}`).join(', ');

  it('all, where nobody knows how changes travel', () => {
    assert.equal(why([], []), '');
  });

  it('not those that no subscription links with the most of them', () => {
    assert.equal(
      why(
        chain,
        chain.map((one) => carries(one)),
      ),
      'n4 apart',
    );
    assert.equal(why(chain, []), 'n1 apart, n2 apart, n3 apart, n4 apart');
    assert.deepEqual([...largestPart(NODES, chain)], ['n1', 'n2', 'n3']);
    assert.deepEqual(
      pairConditions(NODES, chain).map(({ subject }) => subject),
      ['n4 and n1, n2, n3'],
    );
  });

  it('what is left out on the way to one is left out behind it, where that forwards', () => {
    const [first, second] = chain;
    assert.ok(first !== undefined && second !== undefined);
    const restricted = [carries(first, { restriction: 'columns' }), carries(second)];
    assert.equal(why(chain, restricted), 'n2 restricted, n3 restricted, n4 apart');
    const mesh = [edge('n1', 'n2'), edge('n2', 'n1'), edge('n1', 'n3'), edge('n2', 'n3')];
    const copying = mesh.map((one, i) => carries(one, i === 0 ? { state: 'copying' } : {}));
    assert.equal(why(mesh, copying), 'n2 copying, n4 apart');
  });
});
