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
   * table, which was published after it was last refreshed.
   */
  readonly state: 'copying' | 'unknown';
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
      const names = publishedTo(edge, published.get(edge.from) ?? []);
      if (session === undefined || names.length === 0) return [];
      const states = await readStates(session, edge.subscription, names);
      return names.flatMap((name): PendingCopy[] => {
        const state = states.get(nameId(name));
        if (state !== undefined && APPLIED_STATES.has(state)) return [];
        const label = `${name.schema}.${name.name}`;
        return [{ edge, table: label, state: state === undefined ? 'unknown' : 'copying' }];
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
}

function publishedTo(edge: Edge, leaves: readonly PublishedLeaf[]): TableName[] {
  const byLeaf = new Map<string, PublishedLeaf>();
  for (const one of leaves) {
    if (!edge.publications.includes(one.publication)) continue;
    const known = byLeaf.get(one.leaf);
    if (known === undefined || one.height > known.height) byLeaf.set(one.leaf, one);
  }
  const names = new Map(Array.from(byLeaf.values(), ({ as }) => [nameId(as), as]));
  return [...names.values()];
}

function nameId({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}

/** By the catalog: the view pg_publication_tables looks at every table there is. */
async function readPublished(session: Session, table: TableName): Promise<PublishedLeaf[]> {
  const rows = await session.query(PUBLISHED_QUERY, [table.schema, table.name]);
  return rows.map(([publication, leaf, schema, name, height]) => ({
    publication: publication ?? '',
    leaf: leaf ?? '',
    as: { schema: schema ?? '', name: name ?? '' },
    height: Number(height),
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
  SELECT p.pubname, p.pubviaroot, l.leaf, l.oid, l.height
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
         CASE WHEN pubviaroot THEN height ELSE 0 END AS height
    FROM held ORDER BY pubname, leaf, height DESC
)
SELECT s.pubname, s.leaf::text, n.nspname, c.relname, s.height::text
  FROM shown s
  JOIN pg_catalog.pg_class c ON c.oid = s.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace`;
