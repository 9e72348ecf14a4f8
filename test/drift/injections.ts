import type { Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

/** A way in which nodes come to differ, and what the daemon is to say of it. */
export interface Injection {
  readonly name: string;
  /** Returns when it is committed, or takes effect. */
  readonly inject: (mesh: Mesh) => Promise<void>;
  readonly mend: (mesh: Mesh) => Promise<void>;
  readonly kind: 'missing' | 'extra' | 'different' | 'mixed';
  /** Absent: those that the table has. */
  readonly rows?: number;
  /** Absent: it depends on who has written the row before. */
  readonly cause?:
    'foreign_origin' | 'altered' | 'lacking' | 'conflict' | 'local_write' | 'truncate' | 'unknown';
  /** Where a row is missing: the node whose stream has shown who took it away. */
  readonly takenOn?: string;
  /** `agree` of the event. */
  readonly agree: readonly (readonly string[])[];
  /** Events that are told too. */
  readonly alsoTold?: readonly string[];
}

export const ITEMS = 500;

/**
 * The table, on three nodes. On n2 what is applied meets a trigger that refuses some values, changes
 * others, and leaves the rest alone.
 */
export const ITEMS_DDL = `CREATE TABLE items (id int PRIMARY KEY, v text); CREATE EXTENSION pg_surgery`;

export async function prepareItems(mesh: Mesh): Promise<void> {
  await mesh.query(
    'n1',
    `INSERT INTO items SELECT i, 'v' || i FROM generate_series(1, ${ITEMS}) i`,
  );
  await mesh.waitForReplication();
  await mesh.query(
    'n2',
    `CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$
     BEGIN
       IF NEW.v LIKE 'refused%' THEN RAISE EXCEPTION 'refused'; END IF;
       IF NEW.v LIKE 'changed%' THEN NEW.v := NEW.v || ' by a trigger'; END IF;
       RETURN NEW;
     END $$;
     CREATE TRIGGER meddle BEFORE INSERT OR UPDATE ON items FOR EACH ROW EXECUTE FUNCTION meddle();
     ALTER TABLE items ENABLE REPLICA TRIGGER meddle`,
  );
  await mesh.query('n1', "SELECT pg_create_logical_replication_slot('peek', 'pgoutput')");
}

const SUBSCRIPTION = 'mesh_n2_from_n1';

/** What the test itself does leaves no trace on the other nodes. */
const onNode =
  (node: string, sql: string) =>
  (mesh: Mesh): Promise<void> =>
    mesh.driftSql(node, sql);

const onEveryNode =
  (sql: string) =>
  async (mesh: Mesh): Promise<void> => {
    for (const node of mesh.names) await mesh.driftSql(node, sql);
  };

export const INJECTIONS: readonly Injection[] = [
  {
    name: 'insert on one node',
    inject: onNode('n2', "INSERT INTO items VALUES (9001, 'rogue')"),
    mend: onNode('n2', 'DELETE FROM items WHERE id = 9001'),
    kind: 'extra',
    rows: 1,
    cause: 'foreign_origin',
    agree: [['n1', 'n3'], ['n2']],
  },
  {
    name: 'update on one node',
    inject: onNode('n2', "UPDATE items SET v = 'rogue' WHERE id = 10"),
    mend: onNode('n2', "UPDATE items SET v = 'v10' WHERE id = 10"),
    kind: 'different',
    rows: 1,
    cause: 'foreign_origin',
    agree: [['n1', 'n3'], ['n2']],
  },
  {
    name: 'delete on one node',
    inject: onNode('n3', 'DELETE FROM items WHERE id = 11'),
    mend: onNode('n3', "INSERT INTO items VALUES (11, 'v11')"),
    kind: 'missing',
    rows: 1,
    cause: 'foreign_origin',
    takenOn: 'n3',
    agree: [['n1', 'n2'], ['n3']],
  },
  {
    name: 'update of a key on one node',
    inject: onNode('n2', 'UPDATE items SET id = 9002 WHERE id = 12'),
    mend: onNode('n2', 'UPDATE items SET id = 12 WHERE id = 9002'),
    kind: 'mixed',
    rows: 2,
    cause: 'foreign_origin',
    takenOn: 'n2',
    agree: [['n1', 'n3'], ['n2']],
  },
  {
    name: 'TRUNCATE of one node',
    inject: onNode('n3', 'TRUNCATE items'),
    mend: async (mesh) => {
      const rows = await mesh.query('n1', 'SELECT id, v FROM items');
      const values = rows.map(([id, v]) => `(${id ?? ''}, '${v ?? ''}')`).join(', ');
      await mesh.driftSql('n3', `INSERT INTO items VALUES ${values}`);
    },
    kind: 'missing',
    cause: 'truncate',
    takenOn: 'n3',
    agree: [['n1', 'n2'], ['n3']],
  },
  {
    name: 'transaction skipped (ALTER SUBSCRIPTION … SKIP)',
    inject: async (mesh) => {
      await mesh.query('n1', "UPDATE items SET v = 'refused' WHERE id = 20");
      const lsn = await lastCommit(mesh);
      await failuresOf(mesh);
      await mesh.query('n2', `ALTER SUBSCRIPTION ${SUBSCRIPTION} SKIP (lsn = '${lsn}')`);
    },
    mend: onEveryNode("UPDATE items SET v = 'v20' WHERE id = 20"),
    kind: 'different',
    rows: 1,
    cause: 'lacking',
    agree: [['n1', 'n3'], ['n2']],
  },
  {
    name: 'subscription that disables itself (disable_on_error), then skips',
    inject: async (mesh) => {
      await mesh.query('n2', `ALTER SUBSCRIPTION ${SUBSCRIPTION} SET (disable_on_error = true)`);
      await mesh.query('n1', "UPDATE items SET v = 'refused too' WHERE id = 21");
      const lsn = await lastCommit(mesh);
      const sql = `SELECT subenabled FROM pg_subscription WHERE subname = '${SUBSCRIPTION}'`;
      await waitFor(async () => (await mesh.query('n2', sql))[0]?.[0] === 'f', {
        what: 'the subscription to disable itself',
        timeoutMs: 30_000,
      });
      await mesh.query('n2', `ALTER SUBSCRIPTION ${SUBSCRIPTION} SKIP (lsn = '${lsn}')`);
      await mesh.query('n2', `ALTER SUBSCRIPTION ${SUBSCRIPTION} SET (disable_on_error = false)`);
      await mesh.query('n2', `ALTER SUBSCRIPTION ${SUBSCRIPTION} ENABLE`);
    },
    mend: onEveryNode("UPDATE items SET v = 'v21' WHERE id = 21"),
    kind: 'different',
    rows: 1,
    cause: 'lacking',
    agree: [['n1', 'n3'], ['n2']],
  },
  {
    name: 'conflict, each node keeps its own',
    inject: async (mesh) => {
      for (const [from, to] of [
        ['n1', 'n2'],
        ['n2', 'n1'],
      ] as const) {
        await mesh.pauseReplication(from, to);
      }
      await mesh.query('n1', "UPDATE items SET v = 'of n1' WHERE id = 30");
      await mesh.query('n2', "UPDATE items SET v = 'of n2' WHERE id = 30");
      await mesh.resumeReplication('n1', 'n2');
      await mesh.resumeReplication('n2', 'n1');
    },
    mend: async (mesh) => mesh.query('n3', "UPDATE items SET v = 'settled' WHERE id = 30").then(),
    kind: 'different',
    rows: 1,
    cause: 'unknown',
    agree: [],
  },
  {
    name: 'side effect of a trigger on one node',
    inject: async (mesh) => mesh.query('n1', "UPDATE items SET v = 'changed' WHERE id = 40").then(),
    mend: onEveryNode("UPDATE items SET v = 'v40' WHERE id = 40"),
    kind: 'different',
    rows: 1,
    cause: 'altered',
    agree: [['n1', 'n3'], ['n2']],
  },
  {
    name: 'row changed below the log (found by the scrub)',
    inject: async (mesh) =>
      mesh
        .query(
          'n2',
          "SELECT heap_force_kill('items'::regclass, ARRAY[(SELECT ctid FROM items WHERE id = 50)])",
        )
        .then(),
    mend: onNode('n2', "INSERT INTO items VALUES (50, 'v50')"),
    kind: 'missing',
    rows: 1,
    agree: [['n1', 'n3'], ['n2']],
    alsoTold: ['leaf_mismatch'],
  },
];

/** Where the last transaction of n1 that the mesh publishes has its commit record: what SKIP is told. */
async function lastCommit(mesh: Mesh): Promise<string> {
  const rows = await mesh.query(
    'n1',
    `SELECT encode(substring(data FROM 2 FOR 8), 'hex')
       FROM pg_logical_slot_get_binary_changes('peek', NULL, NULL, 'proto_version', '1', 'publication_names', 'mesh')
      WHERE get_byte(data, 0) = ascii('B')`,
  );
  const hex = rows.at(-1)?.[0] ?? '';
  return `${hex.slice(0, 8)}/${hex.slice(8)}`;
}

/** Waits until the subscription has tried in vain. */
async function failuresOf(mesh: Mesh): Promise<void> {
  const sql = `SELECT count(*) FROM pg_stat_subscription WHERE subname = '${SUBSCRIPTION}' AND pid IS NULL`;
  await waitFor(async () => (await mesh.query('n2', sql))[0]?.[0] === '1', {
    what: 'the subscription to fail',
    timeoutMs: 30_000,
  });
}
