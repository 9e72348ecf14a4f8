import type { KeyOperators } from './table-spec.js';

/** One column of a table on one node, from pg_attribute; dropped columns are left out. */
export interface ColumnInfo {
  readonly name: string;
  readonly attnum: number;
  readonly typeOid: number;
  /** Schema-qualified and quoted where needed, usable after `::`, without type modifier. */
  readonly typeName: string;
  /** format_type() with modifier, for people and for comparing nodes. */
  readonly declaredType: string;
  /** The same of the base type, with the modifier that it has here: what is stored. */
  readonly storedType: string;
  /** Of the stored type; -1: none. */
  readonly typeModifier: number;
  /** Underlying type of a domain (recursively), else the type itself. */
  readonly baseTypeOid: number;
  readonly baseTypeCategory: string;
  /** typtype of the base type: b, c, d, e, m, p, r. */
  readonly baseTypeKind: string;
  /** The base type's name in the form of typeName. */
  readonly baseTypeName: string;
  /** The base type as `schema.name`, right after `::` under every search path. */
  readonly baseTypeSql: string;
  /** Labels in their sort order when the base type is an enum, else null. */
  readonly enumLabels: readonly string[] | null;
  /** An explicit cast of the base type to text exists in pg_cast and is not text's/varchar's own. */
  readonly hasTextCast: boolean;
  /**
   * The type, of this column or of a part of its values, whose text is made of other objects' names:
   * regclass and its kind, aclitem. Renaming a table changes it, with no change of the row.
   */
  readonly foreignText: string | null;
  readonly isGenerated: boolean;
  /** The expression of a generated column. */
  readonly generatedAs: string | null;
  readonly identity: 'always' | 'by default' | null;
  readonly isNullable: boolean;
  readonly collation: CollationInfo | null;
}

export interface CollationInfo {
  /** Qualified and quoted, usable after COLLATE; the database default is resolved to its own provider/locale. */
  readonly name: string;
  /** 'c' libc, 'i' icu, 'b' builtin. */
  readonly provider: string;
  readonly locale: string;
  readonly version: string | null;
  readonly isDeterministic: boolean;
  /** Order equals byte order of UTF-8 (C, POSIX, ucs_basic, pg_c_utf8). */
  readonly isByteOrder: boolean;
}

/** What the catalog of one node says of one table. */
export interface TableInfo {
  readonly oid: number;
  readonly schema: string;
  readonly name: string;
  readonly isPartitioned: boolean;
  /** The encoding of the node's database, e.g. `UTF8`. */
  readonly databaseEncoding: string;
  /** Provider and locale of the database's default collation, for people and for comparing. */
  readonly databaseLocale: string;
  readonly columns: readonly ColumnInfo[];
  /** Column names in the key's declared order; empty: no primary key. */
  readonly primaryKey: readonly string[];
  /** Of the key's columns, in its order: those of the index's B-tree operator classes. */
  readonly keyOperators: readonly KeyOperators[];
  /** False: the key's index has no order (GiST, `WITHOUT OVERLAPS`). */
  readonly isKeyOrdered: boolean;
  readonly replicaIdentity: 'default' | 'nothing' | 'full' | 'index';
  /** reltuples summed over leaf partitions, -1 when never analysed. */
  readonly estimatedRows: number;
  /** pg_stats.correlation of the first key column, null when unknown. */
  readonly keyCorrelation: number | null;
  /** OIDs of the partitions that hold rows; null: not a partitioned table. */
  readonly leaves: readonly number[] | null;
  /** Differs when rows may have changed without a row message: see readCatalog. */
  readonly fingerprint: string;
}
