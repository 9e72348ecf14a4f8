import type { Rank } from '../protocol/schema-diff.js';
import type { ObjectKind } from './definition-queries.js';

/** What a difference in a fact means, whatever the values are; `kind fact`, or the fact of any kind. */
const BY_FACT: Readonly<Record<string, Rank>> = {
  comment: 'cosmetic',
  tablespace: 'cosmetic',
  storage: 'cosmetic',
  position: 'cosmetic',
  options: 'equivalent_differing',
  owner: 'equivalent_differing',
  privileges: 'equivalent_differing',
  default: 'equivalent_differing',
  identity: 'equivalent_differing',
  collation: 'equivalent_differing',
  version: 'equivalent_differing',
  'access method': 'equivalent_differing',
  'replica identity': 'equivalent_differing',
  'partition key': 'equivalent_differing',
  'partition bound': 'equivalent_differing',
  parents: 'equivalent_differing',
  'owned by': 'equivalent_differing',
  // It is not replicated before 19, and moves all the time.
  'last value': 'cosmetic',
  nullable: 'narrowed',
  'row security': 'narrowed',
  constraints: 'narrowed',
  'index definition': 'equivalent_differing',
  'index state': 'equivalent_differing',
  'index kind': 'narrowed',
  'constraint definition': 'narrowed',
  'constraint kind': 'incompatible',
  'policy definition': 'narrowed',
  'sequence definition': 'equivalent_differing',
  'statistics definition': 'equivalent_differing',
  'extension schema': 'equivalent_differing',
  'collation locale': 'equivalent_differing',
  'collation provider': 'equivalent_differing',
};

/** `values`: one a node, not all the same. */
export function rankOf(kind: ObjectKind, fact: string, values: readonly (string | null)[]): Rank {
  const isText = values.every((value) => value !== null);
  if (fact === 'definition' && isText && allAlike(values.map(withoutLayout))) return 'cosmetic';
  if (fact === 'type' && isText && areOfOneFamily(values)) return 'narrowed';
  if (fact === 'labels' && isText) return rankOfLabels(values);
  return BY_FACT[`${kind} ${fact}`] ?? BY_FACT[fact] ?? 'incompatible';
}

/** Line ends and indentation, which an editor changes; a text constant that holds them may be one. */
function withoutLayout(definition: string): string {
  return definition
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join('\n');
}

/** Types of which one holds everything that another does, only less or less of it. */
const FAMILIES: readonly RegExp[] = [
  /^(smallint|integer|bigint)$/,
  /^(character varying(\(\d+\))?|text)$/,
  /^character\(\d+\)$/,
  /^numeric(\(\d+,-?\d+\))?$/,
  /^(real|double precision)$/,
  /^timestamp(\(\d\))? without time zone$/,
  /^timestamp(\(\d\))? with time zone$/,
  /^time(\(\d\))? without time zone$/,
  /^time(\(\d\))? with time zone$/,
  /^interval/,
  /^bit varying(\(\d+\))?$/,
  /^(json|jsonb)$/,
];

function areOfOneFamily(types: readonly string[]): boolean {
  return FAMILIES.some((family) => types.every((type) => family.test(type)));
}

/** Enums: with more labels on one node it takes more; in another order it sorts otherwise. */
function rankOfLabels(values: readonly string[]): Rank {
  const lists = values.map((value) => JSON.parse(value) as string[]);
  const longest = lists.reduce((best, list) => (list.length > best.length ? list : best));
  const isPart = lists.every((list) => {
    const kept = longest.filter((label) => list.includes(label));
    return kept.length === list.length && kept.every((label, i) => label === list[i]);
  });
  return isPart ? 'narrowed' : 'incompatible';
}

function allAlike(values: readonly string[]): boolean {
  return values.every((value) => value === values[0]);
}
