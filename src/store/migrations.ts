import type { Database } from 'better-sqlite3';
import { AcedError } from '../base/errors.js';

/** In order; a migration's number is its index + 1. Never edit one that has been released. */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE node (
    name TEXT PRIMARY KEY,
    system_id TEXT NOT NULL,
    timeline INTEGER NOT NULL,
    position TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE tracked_table (
    -- Never used twice: late work on a table that is gone must not reach its successor.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schema TEXT NOT NULL,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    fingerprints TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    block_rows INTEGER NOT NULL,
    layout_version INTEGER NOT NULL,
    UNIQUE (schema, name)
  ) STRICT;
  CREATE TABLE block (
    table_id INTEGER NOT NULL REFERENCES tracked_table ON DELETE CASCADE,
    id INTEGER NOT NULL,
    -- The order of the blocks; has gaps, so that a split writes its pieces only.
    rank INTEGER NOT NULL,
    lower TEXT,
    PRIMARY KEY (table_id, id)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE leaf (
    table_id INTEGER NOT NULL REFERENCES tracked_table ON DELETE CASCADE,
    block_id INTEGER NOT NULL,
    node TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    sum_low INTEGER NOT NULL,
    sum_high INTEGER NOT NULL,
    is_dirty INTEGER NOT NULL,
    filter INTEGER NOT NULL,
    PRIMARY KEY (table_id, block_id, node)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE snapshot_filter (
    node TEXT NOT NULL,
    id INTEGER NOT NULL,
    snapshot TEXT NOT NULL,
    fence TEXT NOT NULL,
    PRIMARY KEY (node, id)
  ) STRICT, WITHOUT ROWID;
  `,
  // Fingerprints of before do not say which OIDs the stream has: those tables are built again.
  `
  ALTER TABLE tracked_table RENAME COLUMN fingerprints TO readings;
  UPDATE tracked_table SET readings = '{}';
  `,
  `
  -- When the block was last read from its table (ms since 1970); 0: not since this column is there.
  ALTER TABLE leaf ADD COLUMN proved_at INTEGER NOT NULL DEFAULT 0;
  -- Leaves that were not what their tables say. By the table's name: outlives its tree.
  CREATE TABLE wrong_leaf (
    schema TEXT NOT NULL,
    name TEXT NOT NULL,
    node TEXT NOT NULL,
    block_id INTEGER NOT NULL,
    times INTEGER NOT NULL,
    -- Of the last time.
    found_at INTEGER NOT NULL,
    found_by TEXT NOT NULL,
    leaf_rows INTEGER NOT NULL,
    leaf_sum TEXT NOT NULL,
    read_rows INTEGER NOT NULL,
    read_sum TEXT NOT NULL,
    PRIMARY KEY (schema, name, node, block_id)
  ) STRICT, WITHOUT ROWID;
  `,
  // Keys are compared by operators that the catalog names: until the next build by the built-in ones.
  `
  UPDATE tracked_table SET
    state = 'stale', reason = 'it was built by a release that knew no operators of keys',
    spec = json_set(spec, '$.isKeyOrdered', json('true'), '$.key', (
      SELECT json_group_array(json_patch(value, '{"isTextUnique": false, "operators": {
        "less": "OPERATOR(pg_catalog.<)", "equal": "OPERATOR(pg_catalog.=)",
        "atLeast": "OPERATOR(pg_catalog.>=)", "greater": "OPERATOR(pg_catalog.>)"}}'))
        FROM json_each(spec, '$.key')));
  `,
  `
  -- Open ones only: what is over is in the log.
  CREATE TABLE incident (
    table_label TEXT PRIMARY KEY,
    state TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- When the server that the position is of was started; null: not known.
  ALTER TABLE node ADD COLUMN server_start TEXT;
  -- The end of the last transaction that is in the leaves; null: not known.
  ALTER TABLE node ADD COLUMN last_end TEXT;
  -- Null: the leaves were begun there, and no transaction has followed.
  ALTER TABLE node ADD COLUMN last_xid INTEGER;
  ALTER TABLE node ADD COLUMN last_time TEXT;
  `,
  `
  -- A table has its current tree, and perhaps the next one, which is being built.
  CREATE TABLE tracked_table_2 (
    -- Never used twice: late work on a table that is gone must not reach its successor.
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    schema TEXT NOT NULL,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    spec TEXT NOT NULL,
    readings TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    block_rows INTEGER NOT NULL,
    layout_version INTEGER NOT NULL,
    UNIQUE (schema, name, role)
  ) STRICT;
  INSERT INTO tracked_table_2
    SELECT id, schema, name, 'current', spec, readings, state, reason, block_rows, layout_version
      FROM tracked_table;
  -- What was stale had to be built again; from now on it is only if its catalog has changed.
  UPDATE tracked_table_2 SET readings = '{}' WHERE state = 'stale';
  DELETE FROM sqlite_sequence WHERE name = 'tracked_table_2';
  INSERT INTO sqlite_sequence (name, seq)
    SELECT 'tracked_table_2', seq FROM sqlite_sequence WHERE name = 'tracked_table';
  DROP TABLE tracked_table;
  ALTER TABLE tracked_table_2 RENAME TO tracked_table;
  CREATE TABLE last_diff (
    schema TEXT NOT NULL,
    name TEXT NOT NULL,
    verdict TEXT NOT NULL,
    at TEXT NOT NULL,
    differences TEXT NOT NULL,
    PRIMARY KEY (schema, name)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Open ones only, as of incidents.
  CREATE TABLE condition (
    id TEXT PRIMARY KEY,
    state TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Tables that the daemon follows because a pattern names them.
  CREATE TABLE auto_table (
    schema TEXT NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (schema, name)
  ) STRICT, WITHOUT ROWID;
  `,
  `
  -- Commands that have ended.
  CREATE TABLE task (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The scheduled job that ran it; null: somebody asked for it.
    job TEXT,
    command TEXT NOT NULL,
    subject TEXT,
    started_at TEXT NOT NULL,
    took_ms INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    message TEXT,
    files TEXT NOT NULL
  ) STRICT;
  CREATE INDEX task_by_job ON task (job, id);
  `,
  `
  -- Who repaired, from what, and what became of it, as JSON; null: it was no repair.
  ALTER TABLE task ADD COLUMN repair TEXT;
  CREATE INDEX task_repair ON task (id) WHERE repair IS NOT NULL;
  `,
  `
  ALTER TABLE last_diff ADD COLUMN is_beyond_tree INTEGER NOT NULL DEFAULT 0;
  `,
  `
  -- What was asked for over ACE's routes, as JSON, and the id its client knows it by; null: something else.
  ALTER TABLE task ADD COLUMN api_id TEXT;
  ALTER TABLE task ADD COLUMN api TEXT;
  CREATE UNIQUE INDEX task_api ON task (api_id) WHERE api_id IS NOT NULL;
  `,
];

/**
 * Brings the file to this program's version; refuses one that a newer program wrote. Foreign keys must
 * be off: a table that others refer to can only be made anew without them
 * (https://www.sqlite.org/lang_altertable.html#otheralter).
 */
export function migrate(database: Database): void {
  const current = Number(database.pragma('user_version', { simple: true }));
  if (current > MIGRATIONS.length) {
    throw new AcedError(
      'STORE',
      `the state file has version ${current}, this program knows ${MIGRATIONS.length}`,
      {
        hint: 'Run the newer aced, or point ACED_STATE_DIR at an empty directory and build again.',
      },
    );
  }
  for (let version = current; version < MIGRATIONS.length; version++) {
    database.transaction(() => {
      database.exec(MIGRATIONS[version] ?? '');
      database.pragma(`user_version = ${version + 1}`);
    })();
  }
}
