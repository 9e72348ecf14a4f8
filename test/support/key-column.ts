import type { KeyOperators } from '../../src/table/table-spec.js';

/** As the catalog gives them for every built-in type. */
export const BUILT_IN_OPERATORS: KeyOperators = {
  less: 'OPERATOR(pg_catalog.<)',
  equal: 'OPERATOR(pg_catalog.=)',
  atLeast: 'OPERATOR(pg_catalog.>=)',
  greater: 'OPERATOR(pg_catalog.>)',
};

/** What a key column of a built-in type has, beside its name and type. */
export const BUILT_IN_KEY = { operators: BUILT_IN_OPERATORS, isTextUnique: true } as const;
