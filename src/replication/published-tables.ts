import { AcedError } from '../base/errors.js';
import type { Param, Session } from '../postgres/session.js';
import type { TableName } from '../table/table-name.js';

/** Why a table must not be in our publication, and what helps. */
export interface PublicationProblem {
  /** `stored`: gone when the publication publishes stored generated columns. */
  readonly kind: string;
  /** The user's own updates and deletes fail while it is published. */
  readonly isHarmful: boolean;
  readonly why: string;
  readonly hint: string;
}

/** A table that was added to the publication by name, as it is called now. */
export interface PublishedTable extends TableName {
  readonly oid: number;
  /** Changes when the table was taken out and added again, or the publication was altered. */
  readonly identity: string;
  /** Rows or columns are left out of the stream. */
  readonly isRestricted: boolean;
  /** The partitioned table under whose name its rows come; null: under its own. */
  readonly sentAs: string | null;
}

export interface FollowedTable extends PublishedTable {
  readonly problem: PublicationProblem | null;
}

/** From this version on the server minds generated columns in a replica identity. */
const CHECKS_GENERATED_SINCE = 180000;

/**
 * What a publication publishes, with what is wrong about it now: identities, keys and columns may
 * have been changed since a table was added. One round trip for the tables, one for their partitions.
 */
export async function readPublishedTables(
  session: Session,
  publication: string,
  signal?: AbortSignal,
): Promise<FollowedTable[]> {
  const tables = await readEntries(session, [publication, null, null], signal);
  const oids = tables.map(({ oid }) => oid);
  const problems = await findProblems(session, { oids, publication, signal });
  return tables.map((table) => ({ ...table, problem: problemOf(table, problems) }));
}

/** How a publication publishes a table that was added to it by name; null: not at all. */
export async function publishedTable(
  session: Session,
  publication: string,
  table: TableName,
): Promise<PublishedTable | null> {
  return (await publishedTables(session, publication, [table]))[0] ?? null;
}

/** The same of many tables in one round trip, in their order. */
export async function publishedTables(
  session: Session,
  publication: string,
  tables: readonly TableName[],
): Promise<(PublishedTable | null)[]> {
  const entries = await readEntries(session, [publication, ...listsOf(tables)]);
  const byName = new Map(entries.map((entry) => [nameId(entry), entry]));
  return tables.map((table) => byName.get(nameId(table)) ?? null);
}

function listsOf(tables: readonly TableName[]): [string[], string[]] {
  return [tables.map(({ schema }) => schema), tables.map(({ name }) => name)];
}

function nameId({ schema, name }: TableName): string {
  return `${schema}\0${name}`;
}

async function readEntries(
  session: Session,
  params: readonly Param[],
  signal?: AbortSignal,
): Promise<PublishedTable[]> {
  const rows = await session.query(
    { name: 'aced_published', text: PUBLISHED_QUERY },
    params,
    signal,
  );
  return rows.map(([oid, schema, name, identity, isRestricted, sentAs]) => ({
    oid: Number(oid),
    schema: schema ?? '',
    name: name ?? '',
    identity: sentAs == null ? (identity ?? '') : `${identity ?? ''} as ${sentAs}`,
    isRestricted: isRestricted === 't',
    sentAs: sentAs ?? null,
  }));
}

function problemOf(
  { oid, isRestricted, sentAs }: PublishedTable,
  problems: ReadonlyMap<number, PublicationProblem>,
): PublicationProblem | null {
  if (sentAs !== null) return sentAsProblem(sentAs);
  return isRestricted ? RESTRICTED : (problems.get(oid) ?? null);
}

/**
 * Why a table must not be published, if so. PostgreSQL refuses UPDATE and DELETE of a published table
 * without a usable replica identity; for partitioned tables it looks at the partition that holds the
 * row. Errors: NO_SUCH_TABLE.
 */
export async function publicationProblem(
  session: Session,
  publication: string,
  table: TableName,
): Promise<PublicationProblem | null> {
  const [problem] = await publicationProblems(session, publication, [table]);
  if (problem instanceof AcedError) throw problem;
  return problem ?? null;
}

/** The same of many tables, in their order; NO_SUCH_TABLE in the place of one that is not there. */
export async function publicationProblems(
  session: Session,
  publication: string,
  tables: readonly TableName[],
): Promise<(PublicationProblem | AcedError | null)[]> {
  const rows = await session.query(TABLE_QUERY, [publication, ...listsOf(tables)]);
  const oids = new Map(rows.map(([number, oid]) => [Number(number) - 1, Number(oid)]));
  const ancestors = new Map(rows.map(([number, , ancestor]) => [Number(number) - 1, ancestor]));
  const problems = await findProblems(session, { oids: [...oids.values()], publication });
  return tables.map(({ schema, name }, index) => {
    const oid = oids.get(index);
    if (oid === undefined) {
      const message = `no table ${schema}.${name} on node ${session.node.name}`;
      return new AcedError('NO_SUCH_TABLE', message);
    }
    const ancestor = ancestors.get(index);
    return typeof ancestor === 'string' ? sentAsProblem(ancestor) : (problems.get(oid) ?? null);
  });
}

const RESTRICTED: PublicationProblem = {
  kind: 'restricted',
  // A filter or a list that does not go with the replica identity makes updates fail.
  isHarmful: true,
  why: 'somebody has added a row filter or a column list',
  hint: 'It is published again as a whole when its tree is built.',
};

function sentAsProblem(ancestor: string): PublicationProblem {
  return {
    kind: 'ancestor',
    isHarmful: false,
    why: `its changes are sent as those of ${ancestor}, which is published too`,
    hint: `Compare ${ancestor}, or take its tree down first.`,
  };
}

/** OID of the table -> the first problem that it, or a partition of it, has. */
async function findProblems(
  session: Session,
  options: {
    readonly oids: readonly number[];
    readonly publication: string;
    readonly signal?: AbortSignal | undefined;
  },
): Promise<Map<number, PublicationProblem>> {
  const rows = await session.query(
    PROBLEM_QUERY,
    [
      options.oids.map(String),
      options.publication,
      session.serverVersion >= CHECKS_GENERATED_SINCE ? 't' : 'f',
    ],
    options.signal,
  );
  const problems = new Map<number, PublicationProblem>();
  for (const [root, member, what, identity] of rows) {
    if (problems.has(Number(root))) continue;
    const kind = what ?? '';
    const problem = PROBLEMS[kind]?.(IDENTITY_NAMES[identity ?? ''] ?? 'unknown');
    if (problem === undefined) throw new AcedError('INTERNAL', `unknown problem ${kind}`);
    const [why, hint] = problem;
    const whose = root === member ? '' : 'of one of its partitions: ';
    problems.set(Number(root), { kind, isHarmful: HARMFUL.has(kind), why: `${whose}${why}`, hint });
  }
  return problems;
}

const HARMFUL: ReadonlySet<string> = new Set(['identity', 'virtual', 'stored']);

/** What PROBLEM_QUERY calls it -> why, and what helps. */
const PROBLEMS: Readonly<Record<string, (identity: string) => readonly [string, string]>> = {
  kind: () => ['it is not a table', 'Only tables can be followed.'],
  persistence: () => ['it is not in the write-ahead log', 'Use ALTER TABLE ... SET LOGGED.'],
  identity: (identity) => [
    `updates and deletes would fail with replica identity ${identity}`,
    'Add a primary key that is not deferrable, or set REPLICA IDENTITY FULL.',
  ],
  virtual: () => [
    'updates and deletes would fail with a virtual generated column in the replica identity',
    'Use REPLICA IDENTITY DEFAULT with a primary key, or make the column stored.',
  ],
  stored: () => [
    'updates and deletes would fail with a stored generated column in the replica identity',
    'The publication must have publish_generated_columns = stored; its owner can set that.',
  ],
};

const IDENTITY_NAMES: Readonly<Record<string, string>> = {
  d: 'default and no usable primary key',
  n: 'nothing',
  i: 'using an index that is not valid',
  f: 'full',
};

/** In 19 a row of pg_publication_rel may mean that the table is left out. */
const ENTRY = `
  SELECT p.oid AS publication, p.xmin AS publication_xmin, r.oid, r.xmin, r.prrelid,
         r.prqual IS NOT NULL OR r.prattrs IS NOT NULL AS is_restricted
    FROM pg_catalog.pg_publication p
    JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
   WHERE p.pubname = $1::name AND (pg_catalog.to_jsonb(r) ->> 'prexcept') IS DISTINCT FROM 'true'`;

/** The partitioned table above `c` that the publication has: rows come under its name then. */
const ANCESTOR = `
  CASE WHEN c.relispartition THEN (
    SELECT pg_catalog.concat_ws('.', pn.nspname, pc.relname)
      FROM pg_catalog.pg_partition_ancestors(c.oid) AS a (relid)
      JOIN entry e ON e.prrelid = a.relid AND a.relid <> c.oid
      JOIN pg_catalog.pg_class pc ON pc.oid = a.relid
      JOIN pg_catalog.pg_namespace pn ON pn.oid = pc.relnamespace
     LIMIT 1) END`;

const PUBLISHED_QUERY = `
WITH entry AS MATERIALIZED (${ENTRY}
)
SELECT c.oid, n.nspname, c.relname,
       pg_catalog.concat_ws('/', s.publication, s.publication_xmin, s.oid, s.xmin),
       s.is_restricted, ${ANCESTOR}
  FROM entry s
  JOIN pg_catalog.pg_class c ON c.oid = s.prrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE $2::name[] IS NULL
    OR (n.nspname, c.relname) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest($2::name[]), pg_catalog.unnest($3::name[])))
 ORDER BY n.nspname, c.relname`;

const TABLE_QUERY = `
WITH entry AS MATERIALIZED (${ENTRY}
)
SELECT w.number, c.oid, ${ANCESTOR}
  FROM ROWS FROM (pg_catalog.unnest($2::name[]), pg_catalog.unnest($3::name[]))
       WITH ORDINALITY AS w (schema, name, number)
  JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')`;

const PROBLEM_QUERY = `
WITH RECURSIVE member AS (
  SELECT c.oid AS root, c.oid, c.relkind, c.relpersistence, c.relreplident
    FROM pg_catalog.pg_class c
   WHERE c.oid = ANY ($1::pg_catalog.oid[])
   UNION ALL
  SELECT m.root, c.oid, c.relkind, c.relpersistence, c.relreplident
    FROM member m
    JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid AND m.relkind = 'p'
    JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
), judged AS (
  SELECT m.*, i.indkey, i.indexrelid IS NOT NULL AS has_index
    FROM member m
    LEFT JOIN pg_catalog.pg_index i
      ON i.indrelid = m.oid AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL
     AND CASE m.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END
), generated AS (
  SELECT j.oid, a.attgenerated
    FROM judged j
    JOIN pg_catalog.pg_attribute a ON a.attrelid = j.oid
   WHERE $3::boolean AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''
     AND (j.relreplident = 'f' OR a.attnum = ANY (j.indkey::int2[]))
), problem AS (
  SELECT j.root, j.oid, j.relreplident,
         CASE
           WHEN j.relkind NOT IN ('r', 'p') THEN 'kind'
           WHEN j.relpersistence <> 'p' THEN 'persistence'
           WHEN j.relkind = 'p' THEN NULL
           WHEN j.relreplident <> 'f' AND NOT j.has_index THEN 'identity'
           WHEN EXISTS (SELECT FROM generated g WHERE g.oid = j.oid AND g.attgenerated = 'v') THEN 'virtual'
           WHEN EXISTS (SELECT FROM generated g WHERE g.oid = j.oid) AND NOT EXISTS (
             SELECT FROM pg_catalog.pg_publication p
              WHERE p.pubname = $2::name AND pg_catalog.to_jsonb(p) ->> 'pubgencols' = 's') THEN 'stored'
         END AS what
    FROM judged j
)
SELECT p.root, p.oid, p.what, p.relreplident FROM problem p WHERE p.what IS NOT NULL ORDER BY p.root, p.oid`;
