import type { DigestColumn } from '../digest/digest-column.js';
import type { KeyColumnSpec } from './table-spec.js';

/**
 * A table without a key is compared as what rows it has, and how often: each content is a row of its own, whose
 * key is its digest. Names of the two columns, as SQL and files have them.
 */
export const ROW_COLUMN = 'aced_row';
export const COPIES_COLUMN = 'aced_copies';

const operator = (name: string): string => `OPERATOR(pg_catalog.${name})`;

export const ROW_KEY: KeyColumnSpec = {
  name: ROW_COLUMN,
  typeName: 'bigint',
  textForm: 'output',
  orderKind: 'integer',
  collate: null,
  operators: {
    less: operator('<'),
    equal: operator('='),
    atLeast: operator('>='),
    greater: operator('>'),
  },
  isTextUnique: true,
};

/** What of such a row is equal on two nodes when it is. */
export const MULTISET_COLUMNS: readonly DigestColumn[] = [
  { name: COPIES_COLUMN, textForm: 'output' },
  { name: ROW_COLUMN, textForm: 'output' },
];

const INT8_OID = 20;

/** They stand before the table's own columns. */
export const MULTISET_REPORT_COLUMNS = [ROW_COLUMN, COPIES_COLUMN].map((name) => ({
  name,
  baseTypeOid: INT8_OID,
}));
