import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { Session } from '../../src/postgres/session.js';
import { readSpockSets } from '../../src/replication/spock.js';
import { readTableEdges } from '../../src/replication/table-copies.js';
import { readTopology } from '../../src/replication/topology.js';
import { startMesh, type Mesh } from '../support/mesh.js';

/**
 * Names and types as in Spock 5.0.11 and 6.0.0; ordinary tables, for no server here has Spock. The row
 * filter is a text instead of a pg_node_tree, which cannot be written by hand.
 */
const CATALOG = `
CREATE SCHEMA spock;
CREATE TABLE spock.node (node_id oid PRIMARY KEY, node_name name);
CREATE TABLE spock.local_node (node_id oid PRIMARY KEY, node_local_interface oid);
CREATE TABLE spock.subscription (sub_id oid PRIMARY KEY, sub_name name, sub_origin oid, sub_target oid,
  sub_enabled boolean, sub_slot_name name, sub_replication_sets text[], sub_forward_origins text[]);
CREATE TABLE spock.replication_set (set_id oid PRIMARY KEY, set_nodeid oid, set_name name,
  replicate_insert boolean, replicate_update boolean, replicate_delete boolean, replicate_truncate boolean);
CREATE TABLE spock.replication_set_table (set_id oid, set_reloid regclass, set_att_list text[], set_row_filter text);
CREATE TABLE spock.local_sync_status (sync_kind "char", sync_subid oid, sync_nspname name, sync_relname name,
  sync_status "char", sync_statuslsn pg_lsn)`;

const TABLES = ['whole', 'filtered', 'narrow', 'joined', 'inserts', 'nowhere', 'copying'];

describe("what Spock's replication sets let through", () => {
  let mesh: Mesh;
  let sessions: Map<string, Session>;

  before(async () => {
    mesh = await startMesh({ nodes: 2 });
    await mesh.queryAll(
      TABLES.map((table) => `CREATE TABLE ${table} (id int PRIMARY KEY, v text)`).join(';'),
    );
    await mesh.queryAll(CATALOG);
    await mesh.query(
      'n1',
      `INSERT INTO spock.replication_set VALUES (1, 49708, 'default', true, true, true, true),
         (2, 49708, 'default_insert_only', true, false, false, true), (3, 49708, 'other', true, true, true, true),
         (4, 49708, 'nobodys', true, true, true, true);
       INSERT INTO spock.replication_set_table VALUES (1, 'whole', NULL, NULL),
         (1, 'filtered', NULL, 'id < 10'), (3, 'narrow', '{id}', NULL), (1, 'joined', NULL, NULL), (2, 'joined', NULL, NULL),
         (2, 'inserts', NULL, NULL), (4, 'nowhere', NULL, NULL), (1, 'copying', NULL, NULL)`,
    );
    await mesh.query(
      'n1',
      "SELECT pg_create_logical_replication_slot('spk_app_n1_sub', 'pgoutput')",
    );
    await mesh.query(
      'n2',
      `INSERT INTO spock.subscription VALUES
         (7, 'sub', 49708, 26863, true, 'spk_app_n1_sub', '{default,default_insert_only,other}', '{}');
       INSERT INTO spock.local_sync_status VALUES ('f', 7, NULL, NULL, 'r', '0/1'),
         ('d', 7, 'public', 'whole', 'r', '0/1'), ('d', 7, 'public', 'copying', 'd', '0/0')`,
    );
    sessions = new Map();
    for (const node of mesh.nodeConfigs()) {
      sessions.set(node.name, await Session.connect(node, { applicationName: 'test' }));
    }
  });

  after(async () => {
    for (const session of sessions.values()) await session.close();
    await mesh.stop();
  });

  async function spockEdges(): Promise<Record<string, string>> {
    const names = TABLES.map((name) => ({ schema: 'public', name }));
    const edges = await readTableEdges(sessions, await readTopology(sessions), names);
    return Object.fromEntries(
      edges
        .filter(({ edge }) => edge.kind === 'spock')
        .map(({ asked, edge, state, restriction }) => [
          TABLES[asked] ?? '',
          [edge.from, edge.to, state, restriction].join(' ').trim(),
        ]),
    );
  }

  it('any set may allow an operation, all filters and lists count, first copies too', async () => {
    assert.deepEqual(await spockEdges(), {
      whole: 'n1 n2 applied',
      filtered: 'n1 n2 applied rows by a filter',
      narrow: 'n1 n2 applied columns',
      joined: 'n1 n2 applied',
      inserts: 'n1 n2 applied some operations',
      copying: 'n1 n2 copying',
    });
    await mesh.query(
      'n2',
      "UPDATE spock.local_sync_status SET sync_status = 'd' WHERE sync_nspname IS NULL",
    );
    assert.equal((await spockEdges())['whole'], 'n1 n2 copying');
  });

  it('a set has the tables of its node', async () => {
    const session = sessions.get('n1');
    assert.ok(session !== undefined);
    const { names, tables } = await readSpockSets(session, ['default_insert_only', 'none']);
    assert.deepEqual(names, ['default_insert_only']);
    assert.deepEqual(tables.map(({ name }) => name).sort(), ['inserts', 'joined']);
  });
});
