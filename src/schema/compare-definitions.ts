import { RANKS, type StructureDifference } from '../protocol/schema-diff.js';
import type { Definition } from './definitions.js';
import { rankOf } from './ranks.js';

/** Objects that do the same whatever their names are. */
const NAMED_ALIKE = new Set(['constraint', 'index', 'publication']);

interface OnNodes {
  readonly kind: Definition['kind'];
  readonly name: string;
  readonly parent: string | null;
  readonly byNode: Map<string, Definition>;
}

/**
 * What differs between the nodes (node -> its objects), the gravest first. Of an object that some node
 * lacks its parts are not told as well. Constraints and indexes that differ by their names alone are one.
 * Pure.
 */
export function compareDefinitions(
  nodes: ReadonlyMap<string, readonly Definition[]>,
): StructureDifference[] {
  const objects = collect(nodes);
  const owners = new Map<string, Set<string>>();
  for (const { kind, name, byNode } of objects) {
    if (!PARENTS.has(kind)) continue;
    owners.set(name, new Set([...(owners.get(name) ?? []), ...byNode.keys()]));
  }
  /** The nodes where the object could be: those that have what it is a part of. */
  const askedOf = ({ parent }: OnNodes): string[] =>
    [...nodes.keys()].filter((node) => parent === null || owners.get(parent)?.has(node) === true);
  const isWhole = (object: OnNodes): boolean =>
    askedOf(object).every((node) => object.byNode.has(node));
  const differences = [
    ...objects.filter(isWhole).flatMap((object) => factDifferences(object, askedOf(object))),
    ...absences(
      objects.filter((object) => !isWhole(object)),
      askedOf,
    ),
  ];
  const text = ({ object, kind, fact }: StructureDifference): string =>
    `${object} ${kind} ${fact ?? ''}`;
  return differences.sort(
    (a, b) => RANKS.indexOf(b.rank) - RANKS.indexOf(a.rank) || compare(text(a), text(b)),
  );
}

function factDifferences(
  { kind, name, byNode }: OnNodes,
  asked: readonly string[],
): StructureDifference[] {
  const facts = new Set(Array.from(byNode.values()).flatMap((one) => Object.keys(one.facts)));
  const valuesOf = (fact: string): (string | null)[] =>
    asked.map((node) => byNode.get(node)?.facts[fact] ?? null);
  const hasOneType = areAlike(valuesOf('type'));
  return [...facts].flatMap((fact): StructureDifference[] => {
    const values = valuesOf(fact);
    if (areAlike(values) || (!hasOneType && OF_THE_TYPE.has(fact))) return [];
    // Who may not see a sequence sees no value: nothing is known of it.
    if (fact === 'last value' && values.includes(null)) return [];
    const byName = asked.map((node, i) => [node, values[i] ?? null] as const);
    const rank = rankOf(kind, fact, values);
    return [{ kind, object: name, fact, rank, values: Object.fromEntries(byName) }];
  });
}

function areAlike(values: readonly (string | null)[]): boolean {
  return values.every((value) => value === values[0]);
}

/** What comes with a column's type: told with it. */
const OF_THE_TYPE = new Set(['collation', 'storage']);

/** Kinds that others are parts of. */
const PARENTS = new Set(['schema', 'table', 'view']);

/** Parents come before their parts, as the queries do. */
function collect(nodes: ReadonlyMap<string, readonly Definition[]>): OnNodes[] {
  const found = new Map<string, OnNodes>();
  for (const [node, definitions] of nodes) {
    for (const definition of definitions) {
      const { kind, name, parent } = definition;
      const id = `${kind} ${name}`;
      const object = found.get(id) ?? { kind, name, parent, byNode: new Map() };
      found.set(id, object);
      object.byNode.set(node, definition);
    }
  }
  return [...found.values()].sort((a, b) => depthOf(a) - depthOf(b));
}

function depthOf({ kind, parent }: OnNodes): number {
  if (parent === null) return 0;
  return PARENTS.has(kind) ? 1 : 2;
}

function absences(
  absent: readonly OnNodes[],
  askedOf: (object: OnNodes) => readonly string[],
): StructureDifference[] {
  return groupsByMeaning(absent).map(({ first, group }) => {
    const nameOn = (node: string): string | null =>
      group.find(({ byNode }) => byNode.has(node))?.name ?? null;
    const values = Object.fromEntries(askedOf(first).map((node) => [node, nameOn(node)]));
    const isAbsent = Object.values(values).includes(null);
    return {
      kind: first.kind,
      object: first.name,
      fact: isAbsent ? null : 'name',
      rank: isAbsent ? 'absent' : 'cosmetic',
      values,
    };
  });
}

/** Those of one table that do the same under two names, each on nodes of its own, together. */
function groupsByMeaning(
  absent: readonly OnNodes[],
): { readonly first: OnNodes; readonly group: OnNodes[] }[] {
  const groups: { readonly first: OnNodes; readonly group: OnNodes[] }[] = [];
  for (const object of absent) {
    const mates = groups.find(
      ({ first, group }) =>
        NAMED_ALIKE.has(object.kind) &&
        first.kind === object.kind &&
        first.parent === object.parent &&
        meaningOf(first) === meaningOf(object) &&
        group.every((mate) => [...object.byNode.keys()].every((node) => !mate.byNode.has(node))),
    );
    if (mates === undefined) groups.push({ first: object, group: [object] });
    else mates.group.push(object);
  }
  return groups;
}

function meaningOf({ byNode }: OnNodes): string {
  const [definition] = byNode.values();
  const facts = Object.entries(definition?.facts ?? {});
  return JSON.stringify(facts.filter(([fact]) => fact !== 'comment'));
}

function compare(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
