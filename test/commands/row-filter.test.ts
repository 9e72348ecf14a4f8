import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { diffTable } from '../../src/commands/diff-table.js';
import type { DiffResult } from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const ROWS = 2500;
const DEFAULT_PATH = '"$user", public';

/** The extensions are in a schema of their own, as often; `mood` is in public. */
const OBJECTS = `
  CREATE SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext;
  CREATE TYPE mood AS ENUM ('sad', 'ok');
  CREATE TABLE users (id int PRIMARY KEY, email ext.citext, tags ext.hstore, feels mood, v int);
  CREATE TABLE names (email ext.citext, id numeric, v int, PRIMARY KEY (email, id));
  ALTER DATABASE app SET search_path = public, ext`;

/** Would count nothing, sum nothing, and find everything alike. */
const PLANTED = `
  CREATE FUNCTION public.nil(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
  CREATE FUNCTION public.nil1(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
  CREATE FUNCTION public.no(bigint, int) RETURNS boolean LANGUAGE sql AS 'SELECT false';
  CREATE FUNCTION public.nilm(bigint, int) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint';
  CREATE AGGREGATE public.count(*) (SFUNC = public.nil1, STYPE = bigint, INITCOND = '0');
  CREATE AGGREGATE public.sum(bigint) (SFUNC = public.nil, STYPE = bigint, INITCOND = '0');
  CREATE OPERATOR public.% (LEFTARG = bigint, RIGHTARG = int, FUNCTION = public.nilm);
  CREATE OPERATOR public.> (LEFTARG = bigint, RIGHTARG = int, FUNCTION = public.no);
  CREATE FUNCTION public.hashtextextended(text, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 0::bigint';
  CREATE FUNCTION public.unnest(int[]) RETURNS SETOF int LANGUAGE sql AS 'SELECT 0 WHERE false';
  CREATE FUNCTION public.pg_current_snapshot() RETURNS text LANGUAGE sql AS $$SELECT ''$$`;

describe('--table-filter means what it means in psql', () => {
  let mesh: Mesh;
  let cluster: Cluster;
  let stateDir: string;

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: OBJECTS });
    await mesh.query(
      'n1',
      `INSERT INTO users SELECT i, 'User' || i || '@x.com', ('k=>' || i)::ext.hstore, CASE i % 3 WHEN 0 THEN 'sad' ELSE 'ok' END::mood, i
         FROM generate_series(1, ${ROWS}) i`,
    );
    await mesh.query(
      'n1',
      `INSERT INTO names SELECT 'N' || i % 7, i, i FROM generate_series(1, ${ROWS}) i`,
    );
    await mesh.waitForReplication();
    await mesh.driftSql('n2', 'UPDATE users SET v = -v WHERE id IN (5, 6, 2400)');
    await mesh.driftSql('n2', 'DELETE FROM users WHERE id = 1200');
    await mesh.driftSql('n2', 'UPDATE names SET v = -v WHERE id IN (5, 12, 2400)');
    stateDir = await scratchDirectory();
    cluster = new Cluster(mesh.config(stateDir), silentLogger());
  });

  after(async () => {
    await cluster.close();
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  function filtered(table: string, tableFilter: string): Promise<DiffResult> {
    return diffTable(cluster, { table, tableFilter }, testContext(stateDir));
  }

  /** Rows that differ as an ordinary session of the same role sees them. */
  async function inPsql(table: string, filter: string): Promise<number> {
    const found = await Promise.all(
      ['n1', 'n2'].map((node) =>
        mesh.query(node, `SELECT t.id::text, t::text FROM ${table} t WHERE ${filter}`),
      ),
    );
    const [n1, n2] = found.map((rows) => new Map(rows.map(([id, row]) => [id, row])));
    const ids = new Set([...(n1?.keys() ?? []), ...(n2?.keys() ?? [])]);
    return [...ids].filter((id) => n1?.get(id) !== n2?.get(id)).length;
  }

  async function assertAsInPsql(table: string, filter: string, expected: number): Promise<void> {
    assert.equal(await inPsql(table, filter), expected, filter);
    const { verdict, differences } = await filtered(table, filter);
    assert.equal(differences['n1/n2'] ?? 0, expected, filter);
    assert.equal(verdict, expected === 0 ? 'match' : 'drift', filter);
  }

  async function assertAllAsInPsql(): Promise<void> {
    await assertAsInPsql('users', "email = 'user5@x.com'", 1);
    await assertAsInPsql('users', "email IN ('USER7@x.com', 'user8@x.com')", 0);
    await assertAsInPsql('users', "email LIKE 'user%00@X.com'", 2);
    await assertAsInPsql('users', "tags @> 'k=>5'::hstore", 1);
    await assertAsInPsql('users', "feels = 'sad'::mood", 3);
    await assertAsInPsql('users', 'id > 5 AND v + 1 < 7', 2);
    await assertAsInPsql('names', "email = 'n5'", 2);
    await assertAsInPsql('names', "email <> 'n5' OR id < 6", 2);
  }

  it('an operator or a type that is on the path of the role', async () => {
    await assertAllAsInPsql();
  });

  it('the path is the one of the server file, the database or the role, on each node', async () => {
    await mesh.queryAll(`ALTER DATABASE app RESET search_path`);
    await assert.rejects(filtered('users', "tags @> 'k=>5'::hstore"), { code: 'BAD_USAGE' });
    await mesh.query('n1', `ALTER SYSTEM SET search_path = 'public', 'ext'`);
    await mesh.query('n1', 'SELECT pg_reload_conf()');
    await waitFor(
      async () => (await mesh.query('n1', 'SHOW search_path'))[0]?.[0] !== DEFAULT_PATH,
      {
        what: 'new sessions have the new path',
      },
    );
    await mesh.query('n2', `ALTER ROLE CURRENT_USER SET search_path = "$user", ext, public`);
    await assertAllAsInPsql();
    await mesh.query('n1', 'ALTER SYSTEM RESET search_path');
    await mesh.query('n1', 'SELECT pg_reload_conf()');
    await mesh.query('n2', 'ALTER ROLE CURRENT_USER RESET search_path');
    await mesh.queryAll('ALTER DATABASE app SET search_path = public, ext');
  });

  it('what somebody put on that path does not pass for what the diff itself uses', async () => {
    await mesh.queryAll(PLANTED);
    await assertAllAsInPsql();
  });

  it('a path that has other schemas before pg_catalog is refused', async () => {
    await mesh.query('n2', 'ALTER DATABASE app SET search_path = public, pg_catalog');
    await assert.rejects(filtered('users', 'id < 9'), {
      code: 'UNSUPPORTED',
      message: /n2.*before pg_catalog: public, pg_catalog/,
    });
    await mesh.query('n2', 'ALTER DATABASE app SET search_path = pg_catalog, public, ext');
    await assertAsInPsql('users', "email = 'user5@x.com'", 1);
  });
});
