import { AcedError } from '../base/errors.js';
import type { CollationInfo, ColumnInfo, TableInfo } from './table-info.js';
import type { KeyColumnSpec, KeyOperators, KeyOrderKind } from './table-spec.js';

/** A column as one of the nodes has it. */
export interface NodeColumn {
  readonly node: string;
  readonly table: TableInfo;
  readonly column: ColumnInfo;
}

/** By the base type's oid in pg_type.dat; every type that is not here is ordered by the server only. */
const ORDER_KINDS: ReadonlyMap<number, KeyOrderKind> = new Map([
  [16, 'boolean'],
  [17, 'bytes'], // bytea: its hex text sorts like its bytes
  [19, 'bytes'], // name
  [20, 'integer'],
  [21, 'integer'],
  [23, 'integer'],
  [25, 'bytes'], // text
  [26, 'integer'], // oid
  [1043, 'bytes'], // varchar
  [1082, 'date'],
  [1114, 'timestamp'],
  [1184, 'timestamp'],
  [1700, 'numeric'],
  [2950, 'uuid'],
]);

/** FirstNormalObjectId: types from here on are the user's. */
const FIRST_USER_OID = 16_384;

const BYTE_COLLATION = 'pg_catalog."C"';

/**
 * How ranges over a key column are ordered. Where the nodes may sort text differently, all of them
 * are told to sort by bytes: blocks with the same boundaries must hold the same rows everywhere.
 * All databases are UTF-8, whose byte order is that of the code points.
 */
export function keyOrderOf(
  onNodes: readonly NodeColumn[],
): Pick<KeyColumnSpec, 'orderKind' | 'collate'> {
  const first = onNodes[0]?.column;
  if (first === undefined) throw new AcedError('INTERNAL', 'a key column exists on no node');
  if (first.baseTypeKind === 'e') requireSameLabels(onNodes);
  if (followsDatabase(first)) requireSameLocale(onNodes);
  requireSameEquality(onNodes);
  const kind = ORDER_KINDS.get(first.baseTypeOid) ?? 'server';
  const collation = first.collation;
  if (collation === null) return { orderKind: kind, collate: null };
  if (agreeOnOrder(onNodes.map(({ column }) => column.collation))) {
    return {
      orderKind: kind === 'bytes' && !collation.isByteOrder ? 'server' : kind,
      collate: null,
    };
  }
  return { orderKind: kind === 'bytes' ? 'bytes' : 'server', collate: BYTE_COLLATION };
}

const JSONB_OIDS: readonly number[] = [3802, 3807];

/**
 * Types that compare texts within their values by the database's own locale, or by that of a part,
 * whatever collation the query asks for: jsonb, citext, and what is made of several types.
 */
function followsDatabase(column: ColumnInfo): boolean {
  const { baseTypeOid, baseTypeKind, baseTypeCategory, collation } = column;
  if (JSONB_OIDS.includes(baseTypeOid)) return true;
  if (baseTypeOid < FIRST_USER_OID) return false;
  const isMade = ['c', 'r', 'm'].includes(baseTypeKind) || baseTypeCategory === 'A';
  return isMade || (baseTypeKind === 'b' && collation !== null);
}

function requireSameLocale(onNodes: readonly NodeColumn[]): void {
  const [first, ...others] = onNodes;
  const other = others.find(({ table }) => table.databaseLocale !== first?.table.databaseLocale);
  if (first === undefined || other === undefined) return;
  throw new AcedError(
    'SCHEMA_MISMATCH',
    `key column ${first.column.name} is of type ${first.column.baseTypeName}, which compares by the ` +
      `database's locale: that is ${first.table.databaseLocale} on ${first.node} but ` +
      `${other.table.databaseLocale} on ${other.node}`,
    { hint: 'Such a key can be compared only between databases of one locale.' },
  );
}

/** Where equal is more than alike, the nodes must call the same keys equal. */
function requireSameEquality(onNodes: readonly NodeColumn[]): void {
  if (onNodes.every(({ column }) => column.collation?.isDeterministic !== false)) return;
  const [first, ...others] = onNodes;
  const facts = ({ column: { collation } }: NodeColumn): string =>
    JSON.stringify([collation?.isDeterministic, collation?.provider, collation?.locale]);
  const other = others.find((one) => first !== undefined && facts(one) !== facts(first));
  if (first === undefined || other === undefined) return;
  throw new AcedError(
    'SCHEMA_MISMATCH',
    `key column ${first.column.name} has a collation that is not deterministic, and it is another ` +
      `one on ${other.node} than on ${first.node}: they do not call the same keys equal`,
    { hint: 'Define the collation alike on all nodes.' },
  );
}

/** The key column's operators, the same on all nodes. Errors: SCHEMA_MISMATCH. */
export function keyOperatorsOf(onNodes: readonly NodeColumn[]): KeyOperators {
  const all = onNodes.map(({ table, column }) => {
    const operators = table.keyOperators[table.primaryKey.indexOf(column.name)];
    if (operators === undefined) throw new AcedError('INTERNAL', 'a key column without operators');
    return operators;
  });
  const [first] = all;
  if (first === undefined) throw new AcedError('INTERNAL', 'a key column exists on no node');
  const other = all.findIndex(({ less, equal }) => less !== first.less || equal !== first.equal);
  if (other < 0) return first;
  throw new AcedError(
    'SCHEMA_MISMATCH',
    `key column ${onNodes[0]?.column.name ?? ''} is ordered by ${first.less} on ` +
      `${onNodes[0]?.node ?? ''} but by ${all[other]?.less ?? ''} on ${onNodes[other]?.node ?? ''}`,
    { hint: 'Have the type and its operators in the same schema on all nodes.' },
  );
}

const BPCHAR_OID = 1042;

/**
 * Other types than those of ORDER_KINDS whose equal values are written alike: "char", char(n), inet,
 * cidr, macaddr, macaddr8, money, time, timetz, bit, varbit, pg_lsn. All enums are too.
 */
const TEXT_UNIQUE_OIDS: ReadonlySet<number> = new Set([
  18,
  BPCHAR_OID,
  869,
  650,
  829,
  774,
  790,
  1083,
  1266,
  1560,
  1562,
  3220,
]);

/** Whether rows can be matched by the text of this column as the nodes match them by its value. */
export function isTextUnique(onNodes: readonly NodeColumn[]): boolean {
  return onNodes.every(({ column: { baseTypeOid, baseTypeKind, collation, typeModifier } }) => {
    if (collation?.isDeterministic === false) return false;
    // Blanks at the end count for nothing; only a length makes them as many in every value.
    if (baseTypeOid === BPCHAR_OID && typeModifier < 0) return false;
    return (
      baseTypeKind === 'e' || ORDER_KINDS.has(baseTypeOid) || TEXT_UNIQUE_OIDS.has(baseTypeOid)
    );
  });
}

/**
 * Whether all nodes provably sort alike. A library that does not tell its version (musl, macOS)
 * proves nothing, except for the collations that are plain byte order.
 */
function agreeOnOrder(collations: readonly (CollationInfo | null)[]): boolean {
  const [first, ...others] = collations;
  if (first === null || first === undefined || !first.isDeterministic) return false;
  if (first.isByteOrder) return others.every((other) => other?.isByteOrder === true);
  if (first.version === null) return others.length === 0;
  return others.every(
    (other) =>
      other?.isDeterministic === true &&
      other.provider === first.provider &&
      other.locale === first.locale &&
      other.version === first.version,
  );
}

function requireSameLabels(onNodes: readonly NodeColumn[]): void {
  const [first, ...others] = onNodes;
  if (first === undefined) return;
  const expected = JSON.stringify(first.column.enumLabels);
  for (const other of others) {
    if (JSON.stringify(other.column.enumLabels) === expected) continue;
    throw new AcedError(
      'SCHEMA_MISMATCH',
      `key column ${first.column.name} is an enum with different labels, or another order of ` +
        `them, on ${first.node} and ${other.node}`,
      { hint: 'Make the enum types equal on all nodes.' },
    );
  }
}
