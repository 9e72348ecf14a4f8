import { allOrCause } from '../base/abort.js';
import type { Session } from '../postgres/session.js';
import { ASKED_MEMBERS } from './member-sql.js';
import type { TableName } from '../table/table-name.js';
import { readSpockCopies, readSpockRules, type SpockRule } from './spock.js';
import type { Edge, Topology } from './topology.js';

/**
 * How a subscription carries a table's changes. It applies them only once it has made its first copy
 * of the table, while its position passes all the same:
 * https://www.postgresql.org/docs/current/catalog-pg-subscription-rel.html
 */
export interface TableEdge {
  readonly edge: Edge;
  /** Index of the table among those that were asked for. */
  readonly asked: number;
  /** `schema.name` of the table, or of the partition that is published in its place. */
  readonly table: string;
  /**
   * `copying`: the first copy is being made, or about to be. `unknown`: the subscription has never heard
   * of the table, which was published after it was last refreshed.
   */
  readonly state: 'applied' | 'copying' | 'unknown';
  /** What is left out on purpose, for people; '' nothing. */
  readonly restriction: string;
}

/** One that cannot be relied on: something is missing, or left out. */
export interface PendingCopy extends Omit<TableEdge, 'state' | 'asked'> {
  /** `restricted`: it is applied, but some changes are not sent on purpose, see `restriction`. */
  readonly state: 'copying' | 'unknown' | 'restricted';
}

/** Synchronised, ready: changes are applied. */
const APPLIED_STATES = new Set(['s', 'r']);

/**
 * The subscriptions that the table, or a partition of it, is sent to and that do not apply all of its
 * changes (yet). To be read after the position that a verdict is to hold at.
 */
export async function readPendingCopies(
  sessions: ReadonlyMap<string, Session>,
  topology: Topology,
  table: TableName,
): Promise<PendingCopy[]> {
  const edges = await readTableEdges(sessions, topology, [table]);
  return edges.flatMap(({ edge, table: name, state, restriction }): PendingCopy[] => {
    if (state === 'applied' && restriction === '') return [];
    return [{ edge, table: name, restriction, state: state === 'applied' ? 'restricted' : state }];
  });
}

/** All subscriptions that carry one of the tables, with what they make of it. */
export async function readTableEdges(
  sessions: ReadonlyMap<string, Session>,
  topology: Topology,
  tables: readonly TableName[],
): Promise<TableEdge[]> {
  const native = topology.edges.filter(({ kind }) => kind === 'native');
  const spock = topology.edges.filter(({ kind }) => kind === 'spock');
  const found = await allOrCause([
    readNativeEdges(sessions, native, tables),
    readSpockEdges(sessions, spock, tables),
  ]);
  return found.flat();
}

async function perPublisher<T>(
  sessions: ReadonlyMap<string, Session>,
  edges: readonly Edge[],
  read: (session: Session) => Promise<T[]>,
): Promise<ReadonlyMap<string, T[]>> {
  const publishers = new Set(edges.map(({ from }) => from));
  return new Map(
    await allOrCause(
      [...publishers].map(async (node) => {
        const session = sessions.get(node);
        return [node, session === undefined ? [] : await read(session)] as const;
      }),
    ),
  );
}

async function readNativeEdges(
  sessions: ReadonlyMap<string, Session>,
  edges: readonly Edge[],
  tables: readonly TableName[],
): Promise<TableEdge[]> {
  const published = await perPublisher(sessions, edges, (session) =>
    readPublished(session, tables),
  );
  const perEdge = await allOrCause(
    edges.map(async (edge) => {
      const session = sessions.get(edge.to);
      const leaves = publishedTo(edge, published.get(edge.from) ?? []);
      if (session === undefined || leaves.length === 0) return [];
      const names = leaves.map(({ as }) => as);
      const states = await readStates(session, edge.subscription, names);
      return leaves.map(({ asked, as, restriction }): TableEdge => {
        const state = states.get(nameId(as));
        return {
          edge,
          asked,
          table: `${as.schema}.${as.name}`,
          restriction,
          state:
            state === undefined ? 'unknown' : APPLIED_STATES.has(state) ? 'applied' : 'copying',
        };
      });
    }),
  );
  return perEdge.flat();
}

/**
 * Partitions are members of sets themselves. Where the role may not read what sets hold, they count as
 * if they held everything.
 */
async function readSpockEdges(
  sessions: ReadonlyMap<string, Session>,
  edges: readonly Edge[],
  tables: readonly TableName[],
): Promise<TableEdge[]> {
  if (edges.length === 0) return [];
  const rules = await perPublisher(sessions, edges, async (session) => [
    await readSpockRules(session, tables),
  ]);
  const perEdge = await allOrCause(
    edges.map(async (edge) => {
      const session = sessions.get(edge.to);
      const [known = null] = rules.get(edge.from) ?? [];
      const sent =
        known === null
          ? tables.map((as, asked) => ({ as, asked, restriction: '' }))
          : rulesOf(edge, known);
      if (session === undefined || sent.length === 0) return [];
      const copying = await readSpockCopies(session, edge.subscription);
      const isCopying = ({ schema, name }: TableName): boolean =>
        copying.some((one) => one === null || (one.schema === schema && one.name === name));
      return sent.map(({ asked, as, restriction }): TableEdge => ({
        edge,
        asked,
        table: `${as.schema}.${as.name}`,
        restriction,
        state: isCopying(as) ? 'copying' : 'applied',
      }));
    }),
  );
  return perEdge.flat();
}

/**
 * One for each relation: an operation travels if any set allows it, a row if all filters do, and lists
 * of columns are joined; a set without a list adds none.
 */
function rulesOf(
  { publications }: Edge,
  rules: readonly SpockRule[],
): Pick<PublishedLeaf, 'asked' | 'as' | 'restriction'>[] {
  const bySets = new Map<string, SpockRule[]>();
  for (const rule of rules) {
    if (!publications.includes(rule.set)) continue;
    const id = nameId(rule.table);
    bySets.set(id, [...(bySets.get(id) ?? []), rule]);
  }
  return [...bySets.values()].flatMap((sets) => {
    const [first] = sets;
    if (first === undefined) return [];
    const sends = (operation: string): boolean =>
      sets.some(({ operations }) => operations.includes(operation));
    const isWhole = ['insert', 'update', 'delete'].every(sends);
    const restriction = [
      ...(isWhole ? [] : ['some operations']),
      ...(sets.some(({ hasRowFilter }) => hasRowFilter) ? ['rows by a filter'] : []),
      ...(sets.some(({ hasColumnList }) => hasColumnList) ? ['columns'] : []),
    ];
    return [{ asked: first.asked, as: first.table, restriction: restriction.join(', ') }];
  });
}

/** A relation that holds rows, as one publication shows it. */
interface PublishedLeaf {
  readonly asked: number;
  readonly publication: string;
  readonly leaf: string;
  /** Of the relation under whose name it is published. */
  readonly as: TableName;
  /** How far that is above the leaf; of several publications the topmost counts. */
  readonly height: number;
  readonly restriction: string;
}

/** One for each name. What one publication of the subscription leaves out another may send. */
function publishedTo(edge: Edge, leaves: readonly PublishedLeaf[]): PublishedLeaf[] {
  const byLeaf = new Map<string, PublishedLeaf>();
  for (const one of leaves) {
    if (!edge.publications.includes(one.publication)) continue;
    const known = byLeaf.get(one.leaf);
    const top = known === undefined || one.height > known.height ? one : known;
    const isWhole = one.restriction === '' || known?.restriction === '';
    byLeaf.set(one.leaf, isWhole ? { ...top, restriction: '' } : top);
  }
  return [...new Map(Array.from(byLeaf.values(), (one) => [nameId(one.as), one])).values()];
}

function nameId({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}

/** By the catalog: the view pg_publication_tables looks at every table there is. */
async function readPublished(
  session: Session,
  tables: readonly TableName[],
): Promise<PublishedLeaf[]> {
  const rows = await session.query(PUBLISHED_QUERY, [
    tables.map(({ schema }) => schema),
    tables.map(({ name }) => name),
  ]);
  return rows.map(([asked, publication, leaf, schema, name, height, restriction]) => ({
    asked: Number(asked) - 1,
    publication: publication ?? '',
    leaf: leaf ?? '',
    as: { schema: schema ?? '', name: name ?? '' },
    height: Number(height),
    restriction: restriction ?? '',
  }));
}

async function readStates(
  session: Session,
  subscription: string,
  names: readonly TableName[],
): Promise<Map<string, string>> {
  const rows = await session.query(
    `SELECT n.nspname, c.relname, r.srsubstate
       FROM pg_catalog.pg_subscription s
       JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
       JOIN pg_catalog.pg_subscription_rel r ON r.srsubid = s.oid
       JOIN pg_catalog.pg_class c ON c.oid = r.srrelid
       JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
       JOIN unnest($2::name[], $3::name[]) w(schema, name)
         ON w.schema = n.nspname AND w.name = c.relname
      WHERE s.subname = $1 AND d.datname = pg_catalog.current_database()`,
    [subscription, names.map(({ schema }) => schema), names.map(({ name }) => name)],
  );
  return new Map(
    rows.map(([schema, name, state]) => [
      nameId({ schema: schema ?? '', name: name ?? '' }),
      state ?? '',
    ]),
  );
}

/** Since 19 a row of pg_publication_rel may mean that the table is left out of FOR ALL TABLES. */
const IS_LEFT_OUT = "((pg_catalog.to_jsonb(r) ->> 'prexcept') IS NOT DISTINCT FROM 'true')";

/** Whether a native subscription of this node replicates the table, or a partition of it. */
export async function replicates(
  session: Session,
  subscription: string,
  { schema, name }: TableName,
): Promise<boolean> {
  const rows = await session.query(
    `WITH RECURSIVE member(oid) AS (
       SELECT c.oid FROM pg_catalog.pg_class c
         JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $2 AND c.relname = $3
        UNION
       SELECT i.inhrelid FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid)
     SELECT FROM pg_catalog.pg_subscription s
       JOIN pg_catalog.pg_database d ON d.oid = s.subdbid
       JOIN pg_catalog.pg_subscription_rel r ON r.srsubid = s.oid
       JOIN member m ON m.oid = r.srrelid
      WHERE s.subname = $1 AND d.datname = pg_catalog.current_database() LIMIT 1`,
    [subscription, schema, name],
  );
  return rows.length > 0;
}

const PUBLISHED_QUERY = `
WITH RECURSIVE ${ASKED_MEMBERS}, line(asked, leaf, oid, height) AS (
  SELECT m.asked, c.oid, c.oid, 0 FROM member m JOIN pg_catalog.pg_class c USING (oid) WHERE c.relkind = 'r'
   UNION ALL
  SELECT l.asked, l.leaf, i.inhparent, l.height + 1
    FROM line l
    JOIN pg_catalog.pg_class c ON c.oid = l.oid AND c.relispartition
    JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.oid
), held AS (
  SELECT l.asked, p.pubname, p.pubviaroot, l.leaf, l.oid, l.height,
         pg_catalog.concat_ws(', ',
           CASE WHEN NOT (p.pubinsert AND p.pubupdate AND p.pubdelete) THEN 'some operations' END,
           (SELECT NULLIF(pg_catalog.concat_ws(', ',
                     CASE WHEN r.prqual IS NOT NULL THEN 'rows by a filter' END,
                     CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                        WHERE a.attrelid = r.prrelid AND a.attnum > 0
                                          AND NOT a.attisdropped AND a.attgenerated = ''
                                          AND NOT a.attnum = ANY (r.prattrs)) THEN 'columns' END), '')
              FROM pg_catalog.pg_publication_rel r
             WHERE r.prpubid = p.oid AND r.prrelid = l.oid AND NOT ${IS_LEFT_OUT})) AS restriction
    FROM line l
    JOIN pg_catalog.pg_class c ON c.oid = l.oid
    JOIN pg_catalog.pg_publication p ON (p.puballtables AND NOT EXISTS (
                  SELECT FROM pg_catalog.pg_publication_rel r
                   WHERE r.prpubid = p.oid AND r.prrelid = l.oid AND ${IS_LEFT_OUT}))
      OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
                  WHERE r.prpubid = p.oid AND r.prrelid = l.oid AND NOT ${IS_LEFT_OUT})
      OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
                  WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
), shown AS (
  SELECT DISTINCT ON (asked, pubname, leaf) asked, pubname, leaf,
         CASE WHEN pubviaroot THEN oid ELSE leaf END AS oid,
         CASE WHEN pubviaroot THEN height ELSE 0 END AS height, restriction
    FROM held ORDER BY asked, pubname, leaf, height DESC
)
SELECT s.asked::text, s.pubname, s.leaf::text, n.nspname, c.relname, s.height::text, s.restriction
  FROM shown s
  JOIN pg_catalog.pg_class c ON c.oid = s.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`;
