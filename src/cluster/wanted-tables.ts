import { AcedError } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { NodePools } from '../postgres/every-node.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { Condition } from '../protocol/drift.js';
import { readSpockSets, type SpockSets } from '../replication/spock.js';
import {
  readCandidateTables,
  readPublicationNames,
  type CandidateTable,
} from '../table/candidate-tables.js';
import type { TableName } from '../table/table-name.js';
import { parseTablePatterns, type TablePattern } from '../table/table-pattern.js';

/** What is to be followed, as the options have it. */
export interface TrackRule {
  readonly include: readonly TablePattern[];
  readonly exclude: readonly TablePattern[];
  readonly publications: readonly string[];
  readonly replicationSets: readonly string[];
}

export interface NodeTables {
  readonly tables: readonly CandidateTable[];
  /** Publications that are there, of those that were asked for. */
  readonly publications: readonly string[];
  readonly sets: SpockSets;
}

/** A table that is to be followed. */
export interface WantedTable extends TableName {
  readonly label: string;
  /** Nodes that have it. */
  readonly nodes: readonly string[];
  /** Changes with its definition on any node. */
  readonly identity: string;
}

export interface Wanted {
  readonly tables: readonly WantedTable[];
  /** What was named and is nowhere. */
  readonly missing: readonly Condition[];
}

/** Null: nothing is to be followed. Errors: BAD_CONFIG naming the option. */
export function trackRule({ track }: Pick<Config, 'track'>): TrackRule | null {
  const rule = {
    include: patterns('track.include', track.include),
    exclude: patterns('track.exclude', track.exclude),
    publications: names(track.publications),
    replicationSets: names(track.replicationSets),
  };
  const wants = [rule.include, rule.publications, rule.replicationSets];
  return wants.some((list) => list.length > 0) ? rule : null;
}

export async function readNodeTables(
  pools: NodePools,
  { rule, nodeSchema }: { readonly rule: TrackRule; readonly nodeSchema: string },
  signal: AbortSignal,
): Promise<ReadonlyMap<string, NodeTables>> {
  const { publications, replicationSets } = rule;
  return onEveryNode(pools, signal, (_, pool, either) =>
    pool.use(
      async (session) => ({
        tables: await readCandidateTables(session, { without: nodeSchema, publications }, either),
        publications: await readPublicationNames(session, publications, either),
        sets: await readSpockSets(session, replicationSets),
      }),
      either,
    ),
  );
}

/** Which of the nodes' tables are to be followed. Pure. */
export function wantedTables(rule: TrackRule, perNode: ReadonlyMap<string, NodeTables>): Wanted {
  const found = new Map<string, { name: TableName; nodes: string[]; identity: string[] }>();
  const matched = new Set<TablePattern>();
  const wanted = new Set<string>();
  for (const [node, { tables, sets }] of perNode) {
    const inSets = new Set(sets.tables.map(idOf));
    for (const table of tables) {
      const id = idOf(table);
      const known = found.get(id) ?? { name: table, nodes: [], identity: [] };
      found.set(id, known);
      known.nodes.push(node);
      known.identity.push(table.identity);
      const hits = rule.include.filter((pattern) => pattern.matches(table));
      for (const pattern of hits) matched.add(pattern);
      if (hits.length > 0 || table.publications.length > 0 || inSets.has(id)) wanted.add(id);
    }
  }
  const tables = Array.from(found).flatMap(([id, { name, nodes, identity }]): WantedTable[] => {
    if (!wanted.has(id) || rule.exclude.some((pattern) => pattern.matches(name))) return [];
    const label = `${name.schema}.${name.name}`;
    return [{ schema: name.schema, name: name.name, label, nodes, identity: identity.join(' ') }];
  });
  return { tables, missing: missingOf(rule, matched, perNode) };
}

function missingOf(
  rule: TrackRule,
  matched: ReadonlySet<TablePattern>,
  perNode: ReadonlyMap<string, NodeTables>,
): Condition[] {
  const nodes = [...perNode.values()];
  const missing = (about: Condition['about'], subject: string, reason: string): Condition => ({
    kind: 'coverage',
    about,
    subject,
    reason,
    facts: { pattern: subject },
  });
  return [
    ...rule.include
      .filter((pattern) => !matched.has(pattern))
      .map(({ text }) =>
        missing('pattern', text, 'no table on any node matches this of track.include'),
      ),
    ...rule.publications
      .filter((name) => !nodes.some(({ publications }) => publications.includes(name)))
      .map((name) =>
        missing('pattern', name, 'no node has this publication of track.publications'),
      ),
    ...rule.replicationSets
      .filter((name) => !nodes.some(({ sets }) => sets.names.includes(name)))
      .map((name) => missing('replication_set', name, setReason(nodes))),
  ];
}

function setReason(nodes: readonly NodeTables[]): string {
  const grant = nodes.map(({ sets }) => sets.missingGrant).find((one) => one !== null);
  const reason = 'no node has this replication set of track.replication_sets';
  return grant === undefined ? reason : `${reason} that this role may read: ${grant}`;
}

function idOf({ schema, name }: TableName): string {
  return JSON.stringify([schema, name]);
}

function patterns(option: string, texts: readonly string[]): TablePattern[] {
  try {
    return texts.flatMap((text) => parseTablePatterns(text));
  } catch (error) {
    if (!(error instanceof AcedError)) throw error;
    const hint = error.hint === undefined ? {} : { hint: error.hint };
    throw new AcedError('BAD_CONFIG', `${option}: ${error.message}`, { ...hint, cause: error });
  }
}

function names(texts: readonly string[]): string[] {
  return texts.flatMap((text) => text.split(',').map((name) => name.trim()));
}
