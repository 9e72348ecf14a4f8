import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { createLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { TableStatus } from '../../src/protocol/commands.js';
import type { PostgresMajor } from '../support/binaries.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const MAJORS: readonly PostgresMajor[] = [15, 16, 17, 18];

/** What makes the user's own updates and deletes fail, and what makes them work again. */
interface Harm {
  readonly title: string;
  readonly since?: PostgresMajor;
  readonly ddl: string;
  readonly harm: string;
  readonly remedy: string;
  readonly reason: RegExp;
}

const PLAIN = 'CREATE TABLE $t (id int PRIMARY KEY, v int, u int NOT NULL UNIQUE)';
const HARMS: readonly Harm[] = [
  {
    title: 'REPLICA IDENTITY NOTHING',
    ddl: PLAIN,
    harm: 'ALTER TABLE $t REPLICA IDENTITY NOTHING',
    remedy: 'ALTER TABLE $t REPLICA IDENTITY DEFAULT',
    reason: /replica identity nothing/,
  },
  {
    title: 'a primary key that is dropped',
    ddl: PLAIN,
    harm: 'ALTER TABLE $t DROP CONSTRAINT $t_pkey',
    remedy: 'ALTER TABLE $t ADD PRIMARY KEY (id)',
    reason: /no usable primary key/,
  },
  {
    title: 'an identity index that is dropped',
    ddl: `${PLAIN}; ALTER TABLE $t REPLICA IDENTITY USING INDEX $t_u_key`,
    harm: 'ALTER TABLE $t DROP CONSTRAINT $t_u_key',
    remedy: 'ALTER TABLE $t REPLICA IDENTITY FULL',
    reason: /index that is not valid/,
  },
  {
    title: 'a partition with REPLICA IDENTITY NOTHING',
    ddl: `CREATE TABLE $t (id int PRIMARY KEY, v int) PARTITION BY LIST (id);
      CREATE TABLE $t_all PARTITION OF $t DEFAULT`,
    harm: 'ALTER TABLE $t_all REPLICA IDENTITY NOTHING',
    remedy: 'ALTER TABLE $t_all REPLICA IDENTITY FULL',
    reason: /of one of its partitions: .*nothing/,
  },
  {
    title: 'a column list that leaves the identity out',
    ddl: `${PLAIN}; ALTER TABLE $t REPLICA IDENTITY FULL`,
    harm: 'ALTER PUBLICATION aced_demo DROP TABLE $t; ALTER PUBLICATION aced_demo ADD TABLE $t (id)',
    // It is published again as a whole without anybody's help.
    remedy: 'SELECT 1',
    reason: /row filter or a column list|definition or publication changed/,
  },
  {
    title: 'a virtual generated column under REPLICA IDENTITY FULL',
    since: 18,
    ddl: `${PLAIN}; ALTER TABLE $t REPLICA IDENTITY FULL`,
    harm: 'ALTER TABLE $t ADD COLUMN g int GENERATED ALWAYS AS (v * 2) VIRTUAL',
    remedy: 'ALTER TABLE $t DROP COLUMN g',
    reason: /virtual generated column/,
  },
  {
    title: 'REPLICA IDENTITY FULL over a virtual generated column',
    since: 18,
    ddl: 'CREATE TABLE $t (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) VIRTUAL)',
    harm: 'ALTER TABLE $t REPLICA IDENTITY FULL',
    remedy: 'ALTER TABLE $t REPLICA IDENTITY DEFAULT',
    reason: /virtual generated column/,
  },
];

/** An engine as the daemon has it, on a mesh of its own. */
class Daemon {
  readonly mesh: Mesh;
  readonly #stateDir: string;
  readonly #engine: Engine;
  readonly #lines: string[];

  private constructor(mesh: Mesh, stateDir: string, engine: Engine, lines: string[]) {
    this.mesh = mesh;
    this.#stateDir = stateDir;
    this.#engine = engine;
    this.#lines = lines;
  }

  static async start(nodes: number, major: PostgresMajor): Promise<Daemon> {
    const mesh = await startMesh({ nodes, major });
    const stateDir = await scratchDirectory();
    const lines: string[] = [];
    const log = createLogger('info', { write: (line: string) => void lines.push(line) });
    const config = mesh.config(stateDir, { tree: { catalogWatchMs: 200 } });
    const engine = await Engine.open(config, { log, mode: 'daemon' });
    await engine.run('mtree-init', {}, testContext(stateDir));
    return new Daemon(mesh, stateDir, engine, lines);
  }

  async stop(): Promise<void> {
    await this.#engine.close();
    await this.mesh.stop();
    await removeDirectory(this.#stateDir);
  }

  async build(table: string): Promise<void> {
    await this.#engine.run('mtree-build', { table, blockRows: 10 }, testContext(this.#stateDir));
  }

  async verdict(table: string): Promise<string> {
    const context = testContext(this.#stateDir);
    return (await this.#engine.run('mtree-table-diff', { table }, context)).verdict;
  }

  async status(table: string): Promise<TableStatus | undefined> {
    const { tables } = await this.#engine.run('status', {}, testContext(this.#stateDir));
    return tables.find((one) => one.table === `public.${table}`);
  }

  async waitForState(table: string, state: string, reason = /^/): Promise<void> {
    let last: TableStatus | undefined;
    await waitFor(
      async () => {
        last = await this.status(table);
        return last?.state === state && reason.test(last.reason ?? '');
      },
      { what: `${table} to be ${state}, ${String(reason)}`, timeoutMs: 30_000 },
    ).catch((error: unknown) => {
      throw new Error(JSON.stringify([last, this.#lines.slice(-20)]), { cause: error });
    });
  }

  events(event: string, table: string): string[] {
    const named = [`"event":"${event}"`, `"table":"public.${table}"`];
    return this.#lines.filter((line) => named.every((part) => line.includes(part)));
  }

  async isPublished(node: string, table: string): Promise<boolean> {
    const rows = await this.mesh.query(
      node,
      `SELECT FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid
        WHERE p.pubname = 'aced_demo' AND r.prrelid = '${table}'::regclass`,
    );
    return rows.length > 0;
  }
}

/** The user's own update, whatever it was told for a moment. */
async function canWrite(mesh: Mesh, node: string, table: string): Promise<boolean> {
  return mesh.query(node, `UPDATE ${table} SET v = v + 1; DELETE FROM ${table} WHERE id = 3`).then(
    () => true,
    (error: unknown) => {
      assert.match(String(error), /cannot (update|delete)/);
      return false;
    },
  );
}

for (const major of MAJORS) {
  describe(`our publication never breaks the user's writes, PostgreSQL ${major}`, () => {
    let daemon: Daemon;

    before(async () => {
      daemon = await Daemon.start(1, major);
      // The application's own publication would refuse the same statements.
      await daemon.mesh.query('n1', 'DROP PUBLICATION mesh');
    });

    after(() => daemon.stop());

    async function check(harm: Harm, table: string): Promise<void> {
      const { mesh } = daemon;
      // As one transaction: nobody sees what is between its statements.
      const run = async (sql: string): Promise<void> => {
        await mesh.query('n1', sql.replaceAll('$t', table));
      };
      await run(harm.ddl);
      const unique = harm.ddl.includes(' u int') ? ', u' : '';
      await run(
        `INSERT INTO $t (id, v${unique}) SELECT i, i${unique && ', i'} FROM generate_series(1, 50) i`,
      );
      await daemon.build(table);
      assert.equal(await canWrite(mesh, 'n1', table), true);
      await run(harm.harm);
      await waitFor(() => canWrite(mesh, 'n1', table), { what: 'the user to write again' });
      await waitFor(
        () => daemon.events('table_changed', table).some((one) => harm.reason.test(one)),
        {
          what: `an event that says ${String(harm.reason)}`,
        },
      );
      assert.equal(daemon.events('table_unpublished', table).length, 1);
      if (harm.remedy !== 'SELECT 1') {
        assert.equal(await daemon.isPublished('n1', table), false);
        await daemon.waitForState(table, 'stale');
      }
      await run(harm.remedy);
      await daemon.waitForState(table, 'live');
      assert.equal(await daemon.isPublished('n1', table), true);
      assert.equal(await canWrite(mesh, 'n1', table), true);
    }

    HARMS.forEach((harm, number) => {
      if ((harm.since ?? 15) > major) return;
      it(harm.title, () => check(harm, `h${number}`));
    });

    it('a stored generated column under REPLICA IDENTITY FULL is followed', async () => {
      const { mesh } = daemon;
      await mesh.query(
        'n1',
        `CREATE TABLE stored (id int PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED);
         ALTER TABLE stored REPLICA IDENTITY FULL;
         INSERT INTO stored SELECT i, i FROM generate_series(1, 50) i`,
      );
      await daemon.build('stored');
      assert.equal(await canWrite(mesh, 'n1', 'stored'), true);
      await mesh.query(
        'n1',
        'ALTER TABLE stored ADD COLUMN h int GENERATED ALWAYS AS (v * 3) STORED',
      );
      assert.equal(await canWrite(mesh, 'n1', 'stored'), true);
      await waitFor(async () => (await daemon.status('stored'))?.nodes['n1']?.rows === 49, {
        what: 'the delete to be followed',
      });
    });
  });
}

describe('a table that changes on one node', () => {
  let daemon: Daemon;

  before(async () => {
    daemon = await Daemon.start(2, 18);
    await daemon.mesh.addTables(
      ['gone', 'named', 'altered', 'other', 'brief']
        .map((name) => `CREATE TABLE ${name} (id int PRIMARY KEY, v int)`)
        .join(';'),
    );
    for (const table of ['gone', 'named', 'altered', 'other', 'brief']) {
      await daemon.mesh.query(
        'n1',
        `INSERT INTO ${table} SELECT i, i FROM generate_series(1, 50) i`,
      );
      await daemon.build(table);
    }
    await daemon.mesh.waitForReplication();
  });

  after(() => daemon.stop());

  it('is stale within seconds when it is dropped or renamed; others go on', async () => {
    const { mesh } = daemon;
    await mesh.query('n2', 'DROP TABLE gone');
    await mesh.query('n2', 'ALTER TABLE named RENAME TO renamed');
    await daemon.waitForState('gone', 'stale', /no table public\.gone on (node )?n2|no table/);
    await daemon.waitForState('named', 'stale');
    assert.match(
      daemon.events('table_changed', 'named').join(''),
      /is called public\.renamed on n2/,
    );
    await mesh.query('n1', 'UPDATE other SET v = 0 WHERE id = 7');
    await mesh.waitForReplication();
    assert.equal(await daemon.verdict('other'), 'match');
    assert.equal((await daemon.status('other'))?.state, 'live');
    await mesh.query('n2', 'ALTER TABLE renamed RENAME TO named');
    await daemon.waitForState('named', 'live');
    assert.equal(await daemon.verdict('named'), 'match');
    assert.equal(daemon.events('table_changed', 'gone').length, 1);
  });

  it('is built again when it was altered', async () => {
    await daemon.mesh.queryAll('ALTER TABLE altered ADD COLUMN w int DEFAULT 7');
    await waitFor(() => daemon.events('table_changed', 'altered').length > 0, { what: 'an event' });
    await daemon.waitForState('altered', 'live');
    assert.equal(await daemon.verdict('altered'), 'match');
  });

  it('is left alone by what changes no row', async () => {
    const { mesh } = daemon;
    const statements = [
      'ANALYZE brief',
      'VACUUM brief',
      'VACUUM FULL brief',
      'CREATE INDEX ON brief (v)',
      'ALTER TABLE brief ADD CHECK (v >= 0)',
      'ALTER TABLE brief SET (fillfactor = 70)',
      'GRANT SELECT ON brief TO PUBLIC',
    ];
    for (const statement of statements) await mesh.query('n1', statement);
    // Once this has been noticed, so were those before.
    await mesh.queryAll('ALTER TABLE other ADD COLUMN w int');
    await waitFor(() => daemon.events('table_changed', 'other').length > 0, { what: 'an event' });
    assert.deepEqual(daemon.events('table_changed', 'brief'), []);
    assert.equal((await daemon.status('brief'))?.state, 'live');
  });
});
