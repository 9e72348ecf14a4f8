import { AcedError } from '../base/errors.js';
import {
  DIGEST_VERSION,
  type DigestColumn,
  type TextForm,
  type ValueForm,
} from '../digest/digest-column.js';
import { textFormOf } from '../digest/digest-sql.js';
import { commonValueForm } from '../digest/value-form.js';
import { isTextUnique, keyOperatorsOf, keyOrderOf, type NodeColumn } from './key-order.js';
import { COPIES_COLUMN, ROW_KEY } from './multiset.js';
import type { ColumnInfo, TableInfo } from './table-info.js';
import type { ExcludedColumn, KeyColumnSpec, TableSpec } from './table-spec.js';

export interface SpecOptions {
  /** Columns that the user does not want compared; names of none are ignored. */
  readonly leftOut?: readonly string[];
  /** The same, by the configuration. */
  readonly configured?: readonly string[];
  /** The only columns that the user wants compared, beside the key's. */
  readonly only?: readonly string[];
  /** Columns of a unique key that the infos have in the place of the primary key. */
  readonly key?: readonly string[];
  /** A table without a key can be compared too: as a multiset. */
  readonly allowsMultiset?: boolean;
  /** For a tree, which changes in the stream keep current: see ExclusionCause. */
  readonly isTree?: boolean;
  /** Forms that some node does not hash as we do: such columns are hashed by their text. */
  readonly unproved?: ReadonlySet<ValueForm>;
}

/**
 * Decides what is compared of one table, from what each node's catalog says of it (node -> table).
 * Pure. Columns are matched by name; those that some node lacks or computes, and those that the
 * user names, are excluded with a reason. Errors: SCHEMA_MISMATCH where types or keys differ, NO_PRIMARY_KEY, UNSUPPORTED for a key
 * that cannot be followed.
 */
export function buildTableSpec(
  infos: ReadonlyMap<string, TableInfo>,
  options: SpecOptions = {},
): TableSpec {
  const [first] = infos.values();
  if (first === undefined) throw new AcedError('INTERNAL', 'no node to compare');
  const isTranscoded = needsTranscoding(infos, options);
  const warnings: string[] = [];
  const keyNames = commonKey(infos, warnings, options);
  const isMultiset = keyNames.length === 0;
  const columns: DigestColumn[] = [];
  const excluded: ExcludedColumn[] = [];
  const shared = new Map<string, NodeColumn[]>();
  for (const name of allColumnNames(infos)) {
    const isAsked = options.only?.includes(name) !== false || keyNames.includes(name);
    const exclusion = isAsked ? exclusionOf(infos, name, options) : NOT_ASKED;
    if (exclusion !== null) {
      if (keyNames.includes(name)) throw unusableKey(first, name, exclusion.reason);
      excluded.push({ name, ...exclusion });
      continue;
    }
    const onNodes = columnOnNodes(infos, name);
    if (!isOneFamily(onNodes)) requireSameType(first, onNodes);
    const textForm = commonTextForm(first, onNodes, warnings);
    const valueForm = commonValueForm(onNodes.map(({ column }) => column));
    const isProved = valueForm !== null && options.unproved?.has(valueForm) !== true;
    columns.push({
      ...{ name, textForm },
      ...(isProved ? { valueForm } : {}),
      ...(isTranscoded ? { isTranscoded } : {}),
    });
    shared.set(name, onNodes);
  }
  if (isMultiset) {
    warnings.push(
      `${label(first)} has no key: its rows are compared as a whole, by how often each is there (${COPIES_COLUMN})`,
    );
  }
  const key = isMultiset
    ? [ROW_KEY]
    : keyNames.map((name): KeyColumnSpec => {
        const onNodes = shared.get(name) ?? [];
        const textForm = columns.find((column) => column.name === name)?.textForm;
        const typeName = widest(onNodes)?.baseTypeSql;
        if (textForm === undefined || typeName === undefined) {
          throw new AcedError('INTERNAL', `key column ${name} is not among the columns`);
        }
        return {
          ...{ name, typeName, textForm, ...keyOrderOf(onNodes) },
          operators: keyOperatorsOf(onNodes),
          isTextUnique: isTextUnique(onNodes),
        };
      });
  return {
    schema: first.schema,
    name: first.name,
    key,
    isKeyOrdered: !isMultiset && [...infos.values()].every((table) => table.isKeyOrdered),
    ...(isMultiset ? { isMultiset } : {}),
    columns,
    excluded,
    digestVersion: DIGEST_VERSION,
    ...(warnings.length > 0 ? { warnings } : {}),
  };
}

/**
 * LATIN1 sorts by bytes as UTF-8 does, and takes any bytes for a text: see hashedText. A tree is kept
 * by what replication sends, which was tried in UTF-8 only.
 */
const COMPARABLE_ENCODINGS = new Set(['UTF8', 'LATIN1']);

/** Whether texts must be brought to one encoding to be hashed alike. Errors: UNSUPPORTED. */
function needsTranscoding(
  infos: ReadonlyMap<string, TableInfo>,
  { isTree = false }: SpecOptions,
): boolean {
  for (const [node, { databaseEncoding }] of infos) {
    if (databaseEncoding === 'UTF8') continue;
    if (COMPARABLE_ENCODINGS.has(databaseEncoding) && !isTree) continue;
    throw new AcedError(
      'UNSUPPORTED',
      `the database of node ${node} has encoding ${databaseEncoding}; ` +
        (isTree ? 'only UTF8 can have a tree' : 'only UTF8 and LATIN1 can be compared'),
      {
        hint: COMPARABLE_ENCODINGS.has(databaseEncoding)
          ? 'Compare it with table-diff.'
          : 'Move the data to a database with encoding UTF8.',
      },
    );
  }
  return [...infos.values()].some(({ databaseEncoding }) => databaseEncoding !== 'UTF8');
}

/** Empty: there is none, and none is needed. */
function commonKey(
  infos: ReadonlyMap<string, TableInfo>,
  warnings: string[],
  { key, allowsMultiset = false }: SpecOptions,
): readonly string[] {
  let reference: { node: string; table: TableInfo } | undefined;
  for (const [node, table] of infos) {
    if (table.primaryKey.length === 0) {
      if (key !== undefined) throw noSuchKey(node, table, key);
      if (allowsMultiset) return [];
      throw new AcedError('NO_PRIMARY_KEY', `table ${label(table)} has no primary key on ${node}`, {
        hint: 'Add a primary key on every node: rows are matched by it. table-diff needs none: it takes --key, or compares whole rows.',
      });
    }
    reference ??= { node, table };
    const expected = reference.table.primaryKey;
    if (sameList(table.primaryKey, expected)) continue;
    if (!sameList(table.primaryKey.toSorted(), expected.toSorted())) {
      throw mismatch(
        `the primary key of ${label(table)} is (${expected.join(', ')}) on ${reference.node} ` +
          `but (${table.primaryKey.join(', ')}) on ${node}`,
      );
    }
    warnings.push(
      `The primary key's columns are declared in another order on ${node} than on ` +
        `${reference.node}; reading ranges there is slow.`,
    );
  }
  return reference?.table.primaryKey ?? [];
}

function noSuchKey(node: string, table: TableInfo, key: readonly string[]): AcedError {
  const found = key.map((name) => ({
    name,
    column: table.columns.find((column) => column.name === name),
  }));
  const missing = found.find(({ column }) => column === undefined);
  const nullable = found.find(({ column }) => column?.isNullable === true);
  const why =
    missing !== undefined
      ? `there is no column ${missing.name}`
      : nullable !== undefined
        ? `${nullable.name} may be NULL`
        : 'there is no unique index on just these columns that holds for all rows and at once (not partial, not deferrable)';
  return new AcedError(
    'BAD_USAGE',
    `--key ${key.join(',')}: no key of ${label(table)} on ${node}: ${why}`,
    {
      hint: 'Name columns that are unique and NOT NULL on every node, or leave --key out: whole rows are compared then.',
    },
  );
}

/** Sorted by name, bytewise: the order that the digest takes the columns in on every node. */
function allColumnNames(infos: ReadonlyMap<string, TableInfo>): string[] {
  const names = new Set<string>();
  for (const table of infos.values()) {
    for (const column of table.columns) names.add(column.name);
  }
  return [...names].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}

const NOT_ASKED = { reason: 'not among --columns', cause: 'named' } as const;

function exclusionOf(
  infos: ReadonlyMap<string, TableInfo>,
  name: string,
  { leftOut = [], configured = [], isTree = false }: SpecOptions,
): Omit<ExcludedColumn, 'name'> | null {
  if (leftOut.includes(name)) return { reason: 'left out as asked', cause: 'named' };
  if (configured.includes(name)) return { reason: 'left out by aced.yaml', cause: 'named' };
  const missing: string[] = [];
  const generated = new Map<string, string>();
  let foreign: string | null = null;
  for (const [node, table] of infos) {
    const column = table.columns.find((candidate) => candidate.name === name);
    if (column === undefined) missing.push(node);
    else if (column.isGenerated)
      generated.set(node, `${column.generatedAs ?? ''} ${column.declaredType}`);
    foreign ??= column?.foreignText ?? null;
  }
  if (missing.length > 0) return { reason: `missing on ${missing.join(', ')}`, cause: 'missing' };
  if (generated.size === infos.size) return generatedEverywhere(generated);
  if (generated.size > 0) {
    return { reason: `generated column on ${[...generated.keys()].join(', ')}`, cause: 'missing' };
  }
  if (isTree && foreign !== null) {
    return {
      reason: `the text of ${foreign} changes with other objects, which the stream does not tell`,
      cause: 'unstable',
    };
  }
  return null;
}

/** Where the columns that it is made of are equal, it is too, if it is made in the same way. */
function generatedEverywhere(generated: ReadonlyMap<string, string>): Omit<ExcludedColumn, 'name'> {
  const [[first = '', expected] = []] = generated;
  const other = [...generated].find(([, definition]) => definition !== expected);
  if (other === undefined) return { reason: 'generated column', cause: 'generated' };
  return { reason: `generated in another way on ${other[0]} than on ${first}`, cause: 'missing' };
}

function columnOnNodes(infos: ReadonlyMap<string, TableInfo>, name: string): NodeColumn[] {
  const found: NodeColumn[] = [];
  for (const [node, table] of infos) {
    const column = table.columns.find((candidate) => candidate.name === name);
    if (column !== undefined) found.push({ node, table, column });
  }
  return found;
}

function requireSameType(table: TableInfo, onNodes: readonly NodeColumn[]): void {
  const [first, ...others] = onNodes;
  if (first === undefined) return;
  for (const other of others) {
    if (
      other.column.typeName !== first.column.typeName ||
      other.column.baseTypeName !== first.column.baseTypeName
    ) {
      throw mismatch(
        `column ${first.column.name} of ${label(table)} is ${describeType(first.column)} on ` +
          `${first.node} but ${describeType(other.column)} on ${other.node}`,
      );
    }
  }
}

/**
 * smallint, integer, bigint; varchar, text: a value is written alike by each of them, and their
 * indexes can be searched for values of the last one, which holds those of the others.
 */
const FAMILIES: readonly (readonly number[])[] = [
  [21, 23, 20],
  [1043, 25],
];

function familyOf(onNodes: readonly NodeColumn[]): readonly number[] | undefined {
  return FAMILIES.find((oids) => onNodes.every(({ column }) => oids.includes(column.baseTypeOid)));
}

function isOneFamily(onNodes: readonly NodeColumn[]): boolean {
  return familyOf(onNodes) !== undefined;
}

/** Of a family the column that holds the values of all the others. */
function widest(onNodes: readonly NodeColumn[]): ColumnInfo | undefined {
  const family = familyOf(onNodes) ?? [];
  const rank = ({ column }: NodeColumn): number => family.indexOf(column.baseTypeOid);
  return onNodes.toSorted((a, b) => rank(b) - rank(a))[0]?.column;
}

const NUMERIC_OID = 1700;

/**
 * Types whose modifier limits what a value may be but not how it is written: varchar, varbit, the
 * timestamps, times and intervals, and arrays of these.
 */
const MODIFIER_FREE_OIDS: ReadonlySet<number> = new Set([
  1043, 1562, 1114, 1184, 1083, 1266, 1186, 1015, 1563, 1115, 1185, 1183, 1270, 1187,
]);

/**
 * The form in which a column's text is equal on all nodes. A numeric whose scale differs between
 * nodes is written with more or fewer trailing zeros, so those are dropped; char(n), bit(n) and
 * arrays of numeric have no such form.
 */
function commonTextForm(
  table: TableInfo,
  onNodes: readonly NodeColumn[],
  warnings: string[],
): TextForm {
  const forms = new Set(onNodes.map(({ column }) => textFormOf(column)));
  const declared = new Set(onNodes.map(({ column }) => declarationOf(column)));
  const column = onNodes[0]?.column;
  if (column !== undefined && declared.size > 1) {
    const types = onNodes.map((one) => `${declarationOf(one.column)} on ${one.node}`).join(', ');
    const isNumeric = column.baseTypeOid === NUMERIC_OID;
    if (!isNumeric && !isOneFamily(onNodes) && !MODIFIER_FREE_OIDS.has(column.baseTypeOid)) {
      throw mismatch(
        `column ${column.name} of ${label(table)} is written differently by its types: ${types}`,
      );
    }
    warnings.push(`Column ${column.name} is declared differently: ${types}.`);
    if (isNumeric) return 'numeric';
  }
  if (forms.has('numeric')) return 'numeric';
  const [form] = forms;
  // The output function is right for every type.
  return form === undefined || forms.size > 1 ? 'output' : form;
}

/** A domain of the same name may be over another length or scale. */
export function declarationOf({ declaredType, storedType }: ColumnInfo): string {
  return declaredType === storedType ? declaredType : `${declaredType} (${storedType})`;
}

function describeType(column: ColumnInfo): string {
  return column.typeName === column.baseTypeName
    ? column.declaredType
    : `${column.declaredType} (a domain over ${column.baseTypeName})`;
}

function unusableKey(table: TableInfo, column: string, reason: string): AcedError {
  return new AcedError(
    'UNSUPPORTED',
    `the primary key of ${label(table)} contains ${column}, which cannot be compared: ${reason}`,
    {
      hint: 'The key must consist of stored columns that replication carries; it is always compared.',
    },
  );
}

function mismatch(message: string): AcedError {
  return new AcedError('SCHEMA_MISMATCH', message, {
    hint: 'Make the table definitions equal on all nodes.',
  });
}

function label(table: TableInfo): string {
  return `${table.schema}.${table.name}`;
}

function sameList(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
