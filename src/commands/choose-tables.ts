import { AcedError } from '../base/errors.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import type { Session } from '../postgres/session.js';
import type { TableChoice } from '../protocol/many-tables.js';
import { hasPublication, readPublicationMembers } from '../replication/publication-members.js';
import { readSpockSets } from '../replication/spock.js';
import { listTables, type ListedTable } from '../table/table-list.js';
import { tableKey, type TableName } from '../table/table-name.js';
import { parseTablePatterns, type TablePattern } from '../table/table-pattern.js';

export interface ChosenTable extends TableName {
  /** Of the node that has most; -1: never analysed. */
  readonly estimatedRows: number;
}

export interface LeftTable extends TableName {
  readonly reason: string;
}

/** Every table that was asked for is in exactly one of the lists; by schema and name. */
export interface ChosenTables {
  readonly chosen: readonly ChosenTable[];
  /** On purpose. */
  readonly skipped: readonly LeftTable[];
  /** Some node has no such table. */
  readonly missing: readonly LeftTable[];
  /** Sets that do not hold the same on every node that has them. */
  readonly warnings: readonly string[];
}

export interface ChooseOptions {
  /** The daemon's own schema on the nodes. */
  readonly nodeSchema: string;
  /** Tables that are chosen whatever the nodes say of them, when they are asked for. */
  readonly known?: readonly TableName[];
  readonly signal: AbortSignal;
}

/** A way of asking for tables, for a message, and the tables that it is. */
interface Wanted {
  readonly what: string;
  readonly has: (table: TableName) => boolean;
  readonly warnings?: readonly string[];
}

/**
 * The tables of the choice, as the nodes have them. A partition is left out where its table as a whole
 * is chosen. Errors: NO_SUCH_TABLE when one way of asking is for nothing, BAD_USAGE when nothing was
 * asked for, those of a pattern.
 */
export async function chooseTables(
  pools: NodePools,
  choice: TableChoice,
  options: ChooseOptions,
): Promise<ChosenTables> {
  const [listed, wanted] = await Promise.all([
    onEveryNode(pools, options.signal, (_, pool, signal) =>
      pool.use((session) => listTables(session, signal), signal),
    ),
    readWanted(pools, choice, options.signal),
  ]);
  return chooseAmong(listed, wanted, {
    skips: (choice.skipTables ?? []).flatMap((text) =>
      parseTablePatterns(text, { defaultSchema: null }),
    ),
    nodeSchema: options.nodeSchema,
    known: options.known ?? [],
  });
}

async function readWanted(
  pools: NodePools,
  choice: TableChoice,
  signal: AbortSignal,
): Promise<Wanted[]> {
  const { tables = [], schemas = [], repset, publication, all = false } = choice;
  const wanted: Wanted[] = tables
    .flatMap((text) => parseTablePatterns(text))
    .map(({ text, matches }) => ({ what: text, has: matches }));
  for (const schema of schemas) {
    wanted.push({ what: `schema ${schema}`, has: (table) => table.schema === schema });
  }
  if (repset !== undefined) {
    wanted.push(
      await membersOf(pools, `replication set or publication ${repset}`, {
        signal,
        read: (session) => setMembers(session, repset),
      }),
    );
  }
  if (publication !== undefined) {
    wanted.push(
      await membersOf(pools, `publication ${publication}`, {
        signal,
        read: (session) => publicationMembers(session, publication),
      }),
    );
  }
  if (all) wanted.push({ what: 'the database', has: () => true });
  if (wanted.length > 0) return wanted;
  throw new AcedError('BAD_USAGE', 'no tables were chosen', {
    hint: "Give a pattern such as 'public.*', --schema, --repset, --publication or --all.",
  });
}

interface MemberOptions {
  readonly signal: AbortSignal;
  /** Null: the node has no such set. */
  readonly read: (session: Session) => Promise<readonly TableName[] | null>;
}

async function membersOf(
  pools: NodePools,
  what: string,
  { signal, read }: MemberOptions,
): Promise<Wanted> {
  const found = await onEveryNode(pools, signal, (_, pool, either) => pool.use(read, either));
  const sets = [...found.values()].filter((set) => set !== null);
  if (sets.length === 0) {
    throw new AcedError('NO_SUCH_TABLE', `no node has a ${what}`, {
      hint: 'Check the spelling; names are as the catalog has them.',
    });
  }
  const keys = new Set(sets.flat().map(keyOf));
  return { what, has: (table) => keys.has(keyOf(table)), warnings: unlikeSets(what, found) };
}

/** Tables that only some of the nodes with the set have in it: changes do not travel alike. */
function unlikeSets(
  what: string,
  found: ReadonlyMap<string, readonly TableName[] | null>,
): string[] {
  const onNodes = new Map<string, { readonly label: string; readonly nodes: string[] }>();
  const nodes = [...found].flatMap(([node, tables]) => (tables === null ? [] : [node]));
  for (const [node, tables] of found) {
    for (const table of tables ?? []) {
      const known = onNodes.get(keyOf(table)) ?? { label: labelOf(table), nodes: [] };
      known.nodes.push(node);
      onNodes.set(keyOf(table), known);
    }
  }
  return [...onNodes.values()].flatMap(({ label, nodes: having }) => {
    const lacking = nodes.filter((node) => !having.includes(node));
    if (lacking.length === 0) return [];
    return [`${label} is in ${what} on ${having.join(', ')}, not on ${lacking.join(', ')}`];
  });
}

/**
 * Of a replication set of Spock's, or where a node has no such set of a publication. Errors:
 * MISSING_PRIVILEGE, since a set that cannot be read must not look like none.
 */
async function setMembers(session: Session, repset: string): Promise<readonly TableName[] | null> {
  const { names, tables, missingGrant } = await readSpockSets(session, [repset]);
  if (missingGrant !== null) {
    const { user, name } = session.node;
    throw new AcedError(
      'MISSING_PRIVILEGE',
      `${user} may not read the replication sets on node ${name}`,
      { hint: `Run there: ${missingGrant}` },
    );
  }
  return names.length === 0 ? publicationMembers(session, repset) : tables;
}

async function publicationMembers(
  session: Session,
  publication: string,
): Promise<readonly TableName[] | null> {
  return (await hasPublication(session, publication))
    ? readPublicationMembers(session, publication)
    : null;
}

interface AmongOptions {
  readonly skips: readonly TablePattern[];
  readonly nodeSchema: string;
  readonly known: readonly TableName[];
}

/** Pure: node -> its tables. */
export function chooseAmong(
  listed: ReadonlyMap<string, readonly ListedTable[]>,
  wanted: readonly Wanted[],
  { skips, nodeSchema, known }: AmongOptions,
): ChosenTables {
  const all = new Map<string, NamedTable>();
  const named = (name: TableName): NamedTable => {
    const table = all.get(keyOf(name)) ?? { name, onNodes: new Map(), isKnown: false };
    all.set(keyOf(name), table);
    return table;
  };
  for (const [node, tables] of listed) {
    for (const table of tables) named(table).onNodes.set(node, table);
  }
  for (const name of known) named(name).isKnown = true;
  const isWanted = (name: TableName): boolean => wanted.some(({ has }) => has(name));
  refuseNothing(
    wanted,
    Array.from(all.values(), ({ name }) => name),
  );
  const chosen: ChosenTable[] = [];
  const skipped: LeftTable[] = [];
  const missing: LeftTable[] = [];
  for (const { name: found, onNodes, isKnown } of all.values()) {
    if (!isWanted(found)) continue;
    const { schema, name } = found;
    const tables = [...onNodes.values()];
    const isLeftOut = skips.some((skip) => skip.matches(found));
    const reason = isKnown ? null : reasonToSkip(tables, nodeSchema, isWanted);
    const absent = [...listed.keys()].filter((node) => !onNodes.has(node));
    if (isLeftOut) skipped.push({ schema, name, reason: 'left out as asked' });
    else if (reason !== null) skipped.push({ schema, name, reason });
    else if (absent.length > 0 && !isKnown) {
      const where = `found on ${[...onNodes.keys()].join(', ')}`;
      missing.push({ schema, name, reason: `${where}, missing on ${absent.join(', ')}` });
    } else {
      const estimates = tables.map(({ estimatedRows }) => estimatedRows);
      chosen.push({ schema, name, estimatedRows: Math.max(-1, ...estimates) });
    }
  }
  return {
    chosen: chosen.toSorted(byName),
    skipped: skipped.toSorted(byName),
    missing: missing.toSorted(byName),
    warnings: wanted.flatMap(({ warnings = [] }) => warnings),
  };
}

interface NamedTable {
  readonly name: TableName;
  readonly onNodes: Map<string, ListedTable>;
  isKnown: boolean;
}

function refuseNothing(wanted: readonly Wanted[], tables: readonly TableName[]): void {
  const empty = wanted.find(({ has }) => !tables.some(has));
  if (empty === undefined) return;
  throw new AcedError('NO_SUCH_TABLE', `no node has a table of ${empty.what}`, {
    hint: 'Check the spelling; names with upper-case letters, dots or wildcards need double quotes.',
  });
}

/** Null: it can be looked at. A table that only some node has like this is looked at. */
function reasonToSkip(
  onNodes: readonly ListedTable[],
  nodeSchema: string,
  isWanted: (table: TableName) => boolean,
): string | null {
  const [first] = onNodes;
  if (first?.schema === nodeSchema) return "aced's own";
  const extension = onNodes.find((table) => table.extension !== null)?.extension;
  if (extension != null) return `belongs to extension ${extension}`;
  if (onNodes.every((table) => table.isForeign)) return 'a foreign table';
  if (onNodes.every((table) => table.isUnlogged)) return 'unlogged, so it is not replicated';
  const isPart = onNodes.every(({ root }) => root !== null && isWanted(root));
  return isPart && first?.root != null ? `a partition of ${labelOf(first.root)}` : null;
}

function keyOf({ schema, name }: TableName): string {
  return tableKey(schema, name);
}

export function labelOf({ schema, name }: TableName): string {
  return `${schema}.${name}`;
}

function byName(a: TableName, b: TableName): number {
  return compare(a.schema, b.schema) || compare(a.name, b.name);
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
