import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { trackRule, wantedTables, type NodeTables } from '../../src/cluster/wanted-tables.js';
import { Engine } from '../../src/commands/engine.js';
import type { StatusResult } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { validateEvent } from '../drift/event-schema.js';

type Line = Readonly<Record<string, unknown>>;

/** Every shape of table that a pattern may meet. */
const TABLES = `
CREATE TABLE plain (id int PRIMARY KEY, v text);
CREATE TABLE wide (b text, a int, c jsonb, d numeric, PRIMARY KEY (a, b));
CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
CREATE TABLE plain_log (id int PRIMARY KEY, v text);
CREATE SCHEMA sales;
CREATE TABLE sales."Order" (id int PRIMARY KEY, v text);
CREATE TABLE sales.other (id int PRIMARY KEY, v text);
`;

describe('tables that the daemon follows by itself', () => {
  let mesh: Mesh;
  let stateDir: string;
  let engine: Engine;
  const lines: Line[] = [];

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: TABLES });
    // Not in the mesh's publication: they have no key, or are not the same everywhere.
    await mesh.queryAll('CREATE TABLE keyless (v text)');
    await mesh.queryAll('CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY)');
    await mesh.queryAll('CREATE PUBLICATION mine FOR TABLES IN SCHEMA app');
    await mesh.query('n1', 'CREATE TABLE uneven (id int PRIMARY KEY, v int)');
    await mesh.query('n2', 'CREATE TABLE uneven (id int PRIMARY KEY, v text)');
    await mesh.query('n2', 'CREATE TABLE lonely (id int PRIMARY KEY)');
    for (const table of ['plain', 'parted', 'sales."Order"']) {
      await mesh.query(
        'n1',
        `INSERT INTO ${table} SELECT i, 'v' || i FROM generate_series(1, 500) i`,
      );
    }
    await mesh.waitForReplication();
    stateDir = await scratchDirectory();
    engine = await open();
    await engine.run('mtree-init', {}, testContext(stateDir));
  });

  after(async () => {
    await engine.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  function open(exclude: readonly string[] = []): Promise<Engine> {
    const config = mesh.config(stateDir, {
      track: {
        include: ['public.*, sales."Order"', 'nowhere.*'],
        exclude: ['*.*_log', ...exclude],
        publications: ['mine', 'nobodys'],
        replicationSets: ['nothing'],
      },
    });
    const log = createLogger('info', {
      write: (line: string) => void lines.push(JSON.parse(line) as Line),
    });
    return Engine.open(config, { log, mode: 'daemon' });
  }

  const status = (): Promise<StatusResult> => engine.run('status', {}, testContext(stateDir));

  async function live(): Promise<string[]> {
    const { tables } = await status();
    return tables.flatMap(({ table, state }) => (state === 'live' ? [table] : [])).sort();
  }

  async function waitForLive(expected: readonly string[]): Promise<void> {
    let seen: string[] = [];
    await waitFor(async () => JSON.stringify((seen = await live())) === JSON.stringify(expected), {
      what: `${expected.join(', ')} to be live`,
      timeoutMs: 60_000,
    }).catch((error: unknown) => {
      throw new Error(`${String(error)}; live are ${seen.join(', ')}`);
    });
  }

  async function published(): Promise<string[]> {
    const sql = `SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'aced_demo'`;
    return (await mesh.query('n1', sql)).map(([table]) => table ?? '').sort();
  }

  const FOLLOWED = ['app.a', 'public.parted', 'public.plain', 'public.wide', 'sales.Order'];

  it('are those that a pattern or a publication names, and no others', async () => {
    await waitForLive(FOLLOWED);
    const diff = await engine.run('mtree-table-diff', { table: 'parted' }, testContext(stateDir));
    assert.equal(diff.verdict, 'match');
    const { tables } = await status();
    assert.deepEqual(tables.map(({ nodes }) => nodes['n1']?.rows).sort(), [0, 0, 500, 500, 500]);
  });

  it('what cannot be followed is told once, and stays to be seen', async () => {
    const expected = [
      ['coverage', 'pattern', 'nobodys'],
      ['coverage', 'pattern', 'nowhere.*'],
      ['coverage', 'replication_set', 'nothing'],
      // Of a publication that nobody subscribes to.
      ['coverage', 'table', 'app.a'],
      ['coverage', 'table', 'public.keyless'],
      ['schema_mismatch', 'table', 'public.lonely'],
      ['schema_mismatch', 'table', 'public.uneven'],
    ];
    const seen = async (): Promise<string[][]> =>
      (await status()).conditions.map(({ kind, about, subject }) => [kind, about, subject]).sort();
    await waitFor(async () => (await seen()).length === expected.length, {
      what: 'all that is wrong',
      timeoutMs: 60_000,
    });
    assert.deepEqual(await seen(), expected);
    const told = lines.filter(({ about }) => about !== undefined);
    assert.deepEqual(
      told.map((line) => [line['event'], line['about'], line['subject']]).sort(),
      expected,
      'each once',
    );
    for (const line of told) assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
    const { problems } = await status();
    for (const [, , subject = ''] of expected) {
      assert.ok(
        problems.some((one) => one.subject === subject),
        subject,
      );
    }
    const reasons = new Map((await status()).conditions.map((one) => [one.subject, one.reason]));
    assert.match(reasons.get('public.keyless') ?? '', /primary key/);
    assert.match(reasons.get('public.lonely') ?? '', /n1/);
    const { tables } = await engine.run('drift-list', {}, testContext(stateDir));
    const verdicts = new Map(tables.map(({ table, verdict }) => [table, verdict]));
    assert.equal(verdicts.get('public.uneven'), 'schema_mismatch');
    assert.equal(verdicts.get('public.keyless'), 'unverified');
  });

  it('one that gets its key, or becomes the same everywhere, is followed from then on', async () => {
    await mesh.queryAll('ALTER TABLE keyless ADD COLUMN id int PRIMARY KEY');
    await mesh.query('n1', 'ALTER TABLE uneven ALTER COLUMN v TYPE text');
    await mesh.query('n1', 'CREATE TABLE lonely (id int PRIMARY KEY)');
    await waitForLive([...FOLLOWED, 'public.keyless', 'public.lonely', 'public.uneven'].sort());
    await waitFor(
      () =>
        ['public.keyless', 'public.lonely', 'public.uneven'].every((table) =>
          lines.some((line) => line['subject'] === table && line['status'] === 'over'),
        ),
      { what: 'that all is well again' },
    );
    await mesh.queryAll('DROP TABLE keyless, lonely, uneven');
    await waitForLive(FOLLOWED);
  });

  it('come and go: one that is made, renamed, moved, dropped; what was built by hand stays', async () => {
    await engine.run('mtree-build', { table: 'sales.other' }, testContext(stateDir));
    await mesh.queryAll('CREATE TABLE fresh (id int PRIMARY KEY, v text)');
    const byHand = [...FOLLOWED, 'sales.other'];
    await waitForLive([...byHand, 'public.fresh'].sort());
    await mesh.queryAll('ALTER TABLE fresh RENAME TO renamed');
    await waitForLive([...byHand, 'public.renamed'].sort());
    await mesh.queryAll("INSERT INTO renamed VALUES (1, 'same')");
    const diff = await engine.run('mtree-table-diff', { table: 'renamed' }, testContext(stateDir));
    assert.equal(diff.verdict, 'match');
    await mesh.queryAll('ALTER TABLE renamed SET SCHEMA app');
    await waitForLive([...byHand, 'app.renamed'].sort());
    await mesh.queryAll('DROP TABLE app.renamed');
    await waitForLive([...byHand].sort());
    assert.deepEqual(await published(), [...byHand].sort());
  });

  it('what no tree follows any more, under whatever name, is published no more', async () => {
    const followed = [...FOLLOWED, 'sales.other', 'public.turned'].sort();
    const make = 'CREATE TABLE turned (id int PRIMARY KEY, v text)';
    await mesh.queryAll(make);
    await waitForLive(followed);
    await mesh.queryAll(`BEGIN; ALTER TABLE turned RENAME TO old_log; ${make}; COMMIT`);
    await waitFor(async () => JSON.stringify(await published()) === JSON.stringify(followed), {
      what: 'the table that had the name to be let go',
    });
    await waitForLive(followed);
    await mesh.queryAll('ALTER TABLE turned RENAME TO turned_log');
    const left = followed.filter((table) => table !== 'public.turned');
    await waitForLive(left);
    assert.deepEqual(await published(), left);
    await mesh.queryAll('DROP TABLE old_log, turned_log');
  });

  it('one that is named may not be torn down; one that is left out later is let go', async () => {
    await assert.rejects(
      engine.run('mtree-teardown-table', { table: 'plain' }, testContext(stateDir)),
      { code: 'UNSUPPORTED' },
    );
    const many = await engine.run(
      'mtree-teardown-table-many',
      { tables: ['public.plain'] },
      testContext(stateDir),
    );
    assert.match(many.tables[0]?.reason ?? '', /option track names it/);
    assert.equal(many.counts.failed, 1);
    await engine.close();
    engine = await open(['plain', 'sales.*']);
    await waitForLive(['app.a', 'public.parted', 'public.wide', 'sales.other']);
    const published = await mesh.query(
      'n2',
      "SELECT tablename FROM pg_publication_tables WHERE pubname = 'aced_demo' AND tablename = 'plain'",
    );
    assert.deepEqual(published, []);
  });

  it('a pattern that is none is refused before anything is opened', async () => {
    const config = mesh.config(stateDir, { track: { include: ['a.b.c'] } });
    await assert.rejects(Engine.open(config, { log: createLogger('silent'), mode: 'daemon' }), {
      code: 'BAD_CONFIG',
      message: /track\.include.*a\.b\.c/,
    });
  });
});

describe('which tables are wanted', () => {
  const node = (...tables: readonly string[]): NodeTables => ({
    tables: tables.map((text) => {
      const [schema = '', name = ''] = text.split('.');
      return { schema, name, identity: text, publications: [] };
    }),
    publications: [],
    sets: {
      names: ['rs'],
      tables: [{ set: 'rs', schema: 's', name: 'in_set' }],
      missingGrant: null,
    },
  });
  const rule = (track: Partial<Parameters<typeof trackRule>[0]['track']>) => {
    const none = { include: [], exclude: [], publications: [], replicationSets: [] };
    const found = trackRule({ track: { ...none, budget: 1, intervalMs: 1, ...track } });
    assert.ok(found !== null);
    return found;
  };

  it('none of an empty option', () => {
    const none = { include: [], exclude: ['*.*'], publications: [], replicationSets: [] };
    assert.equal(trackRule({ track: { ...none, budget: 1, intervalMs: 1 } }), null);
  });

  it('those that any node has, with the nodes that have them', () => {
    const perNode = new Map([
      ['n1', node('s.a', 's.b', 't.a')],
      ['n2', node('s.a', 's.in_set')],
    ]);
    const { tables, missing } = wantedTables(
      rule({ include: ['s.a', 't.*', 'u.*'], exclude: ['t.b'], replicationSets: ['rs', 'other'] }),
      perNode,
    );
    assert.deepEqual(
      tables.map(({ label, nodes }) => [label, nodes]),
      [
        ['s.a', ['n1', 'n2']],
        ['t.a', ['n1']],
        ['s.in_set', ['n2']],
      ],
    );
    assert.deepEqual(
      missing.map(({ about, subject }) => [about, subject]),
      [
        ['pattern', 'u.*'],
        ['replication_set', 'other'],
      ],
    );
  });
});
