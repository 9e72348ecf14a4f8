import { allOrCause } from '../base/abort.js';
import type { Session } from '../postgres/session.js';
import type { TableName } from '../table/table-name.js';
import type { Edge, Topology } from './topology.js';

/**
 * A subscription applies a table's changes only once it has made its first copy of it, while its
 * position passes all the same: https://www.postgresql.org/docs/current/catalog-pg-subscription-rel.html
 */
export interface PendingCopy {
  readonly edge: Edge;
  /** `schema.name` of the table, or of the partition that is published in its place. */
  readonly table: string;
  /**
   * `copying`: it is being made, or about to be. `unknown`: the subscription has never heard of the
   * table, which was published after it was last refreshed. `restricted`: it is applied, but some
   * changes are not sent on purpose, see `restriction`.
   */
  readonly state: 'copying' | 'unknown' | 'restricted';
  /** What the publications leave out, for people; '' nothing. */
  readonly restriction: string;
}

/** Synchronised, ready: changes are applied. */
const APPLIED_STATES = new Set(['s', 'r']);

/**
 * The native subscriptions that the table, or a partition of it, is published to and that do not
 * apply its changes yet. To be read after the position that a verdict is to hold at.
 */
export async function readPendingCopies(
  sessions: ReadonlyMap<string, Session>,
  topology: Topology,
  table: TableName,
): Promise<PendingCopy[]> {
  const edges = topology.edges.filter(({ kind }) => kind === 'native');
  const publishers = new Set(edges.map(({ from }) => from));
  const published = new Map(
    await allOrCause(
      [...publishers].map(async (node) => {
        const session = sessions.get(node);
        return [node, session === undefined ? [] : await readPublished(session, table)] as const;
      }),
    ),
  );
  const perEdge = await allOrCause(
    edges.map(async (edge) => {
      const session = sessions.get(edge.to);
      const leaves = publishedTo(edge, published.get(edge.from) ?? []);
      if (session === undefined || leaves.length === 0) return [];
      const names = leaves.map(({ as }) => as);
      const states = await readStates(session, edge.subscription, names);
      return leaves.flatMap(({ as, restriction }): PendingCopy[] => {
        const copy = { edge, table: `${as.schema}.${as.name}`, restriction };
        const state = states.get(nameId(as));
        if (state === undefined) return [{ ...copy, state: 'unknown' }];
        if (!APPLIED_STATES.has(state)) return [{ ...copy, state: 'copying' }];
        return restriction === '' ? [] : [{ ...copy, state: 'restricted' }];
      });
    }),
  );
  return perEdge.flat();
}

/** A relation that holds rows, as one publication shows it. */
interface PublishedLeaf {
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
async function readPublished(session: Session, table: TableName): Promise<PublishedLeaf[]> {
  const rows = await session.query(PUBLISHED_QUERY, [table.schema, table.name]);
  return rows.map(([publication, leaf, schema, name, height, restriction]) => ({
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

const PUBLISHED_QUERY = `
WITH RECURSIVE member(oid) AS (
  SELECT c.oid FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE n.nspname = $1 AND c.relname = $2
   UNION
  SELECT i.inhrelid FROM member m JOIN pg_catalog.pg_inherits i ON i.inhparent = m.oid
), line(leaf, oid, height) AS (
  SELECT c.oid, c.oid, 0 FROM member JOIN pg_catalog.pg_class c USING (oid) WHERE c.relkind = 'r'
   UNION ALL
  SELECT l.leaf, i.inhparent, l.height + 1
    FROM line l
    JOIN pg_catalog.pg_class c ON c.oid = l.oid AND c.relispartition
    JOIN pg_catalog.pg_inherits i ON i.inhrelid = l.oid
), held AS (
  SELECT p.pubname, p.pubviaroot, l.leaf, l.oid, l.height,
         pg_catalog.concat_ws(', ',
           CASE WHEN NOT (p.pubinsert AND p.pubupdate AND p.pubdelete) THEN 'some operations' END,
           (SELECT NULLIF(pg_catalog.concat_ws(', ',
                     CASE WHEN r.prqual IS NOT NULL THEN 'rows by a filter' END,
                     CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a
                                        WHERE a.attrelid = r.prrelid AND a.attnum > 0
                                          AND NOT a.attisdropped AND a.attgenerated = ''
                                          AND NOT a.attnum = ANY (r.prattrs)) THEN 'columns' END), '')
              FROM pg_catalog.pg_publication_rel r
             WHERE r.prpubid = p.oid AND r.prrelid = l.oid)) AS restriction
    FROM line l
    JOIN pg_catalog.pg_class c ON c.oid = l.oid
    JOIN pg_catalog.pg_publication p ON p.puballtables
      OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r
                  WHERE r.prpubid = p.oid AND r.prrelid = l.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_publication_namespace s
                  WHERE s.pnpubid = p.oid AND s.pnnspid = c.relnamespace)
), shown AS (
  SELECT DISTINCT ON (pubname, leaf) pubname, leaf,
         CASE WHEN pubviaroot THEN oid ELSE leaf END AS oid,
         CASE WHEN pubviaroot THEN height ELSE 0 END AS height, restriction
    FROM held ORDER BY pubname, leaf, height DESC
)
SELECT s.pubname, s.leaf::text, n.nspname, c.relname, s.height::text, s.restriction
  FROM shown s
  JOIN pg_catalog.pg_class c ON c.oid = s.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`;
