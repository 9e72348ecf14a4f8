import type {
  BuildParams,
  BuildResult,
  CommonParams,
  DiffResult,
  InitResult,
  TableDiffParams,
  TableParams,
  TreeDiffParams,
  UpdateParams,
  UpdateResult,
  VerifiedTable,
  VerifyParams,
} from './commands.js';

/** Which tables; what is given adds up, and at least one way is. */
export interface TableChoice extends CommonParams {
  /** Patterns such as `public.*`, or several joined by commas. */
  readonly tables?: readonly string[];
  /** Every table of these schemas; names as the catalog has them. */
  readonly schemas?: readonly string[];
  /** Every table of this replication set of Spock, on any node. */
  readonly repset?: string;
  /** Every table of this publication, on any node. */
  readonly publication?: string;
  /** Every table of the database. */
  readonly all?: boolean;
  /** Patterns of tables that are left out, in this form; without a schema, in any. */
  readonly skipTables?: readonly string[];
}

/** The patterns of ACE's --skip-file: one a line; what is empty or begins with # says nothing. */
export function skippedTables(text: string): string[] {
  return text
    .split(/\r?\n/)
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

type Many<Params extends { readonly table?: string }> = Omit<Params, 'table'> & TableChoice;

export interface BuildManyParams extends Many<BuildParams> {
  /** Tables that have a live tree, too. */
  readonly rebuild?: boolean;
}
export type UpdateManyParams = Many<UpdateParams>;
export type VerifyManyParams = Many<VerifyParams>;
export type TreeDiffManyParams = Many<TreeDiffParams>;
export type TableDiffManyParams = Many<TableDiffParams>;
export type TeardownManyParams = Many<TableParams>;

/**
 * What became of one table. `unproved`: looked at, and neither equal nor different was proved.
 * `missing`: some nodes have no such table. `skipped`: on purpose, `reason` says why.
 */
export type TableEnd =
  'equal' | 'different' | 'done' | 'unproved' | 'missing' | 'skipped' | 'failed';

export interface TableOutcome<Result> {
  readonly table: string;
  readonly end: TableEnd;
  /** A sentence's worth for people; null: nothing to add. */
  readonly reason: string | null;
  /** What the command on this table alone answers; null: it did not get that far. */
  readonly result: Result | null;
}

/** Of a command on many tables: one entry a table, by name. */
export interface ManyTablesResult<Result> {
  readonly tables: readonly TableOutcome<Result>[];
  readonly counts: Readonly<Record<TableEnd, number>>;
  /** What a person should know beside the tables' own results. */
  readonly warnings: readonly string[];
  /** Names of files in the report directory. */
  readonly files: readonly string[];
  readonly timeTakenMs: number;
}

export interface ManyTablesParams {
  'mtree-build-many': BuildManyParams;
  'mtree-update-many': UpdateManyParams;
  'mtree-verify-many': VerifyManyParams;
  'mtree-table-diff-many': TreeDiffManyParams;
  'mtree-teardown-table-many': TeardownManyParams;
  'table-diff-many': TableDiffManyParams;
}

export interface ManyTablesOutcomes {
  'mtree-build-many': ManyTablesResult<BuildResult>;
  'mtree-update-many': ManyTablesResult<UpdateResult>;
  'mtree-verify-many': ManyTablesResult<VerifiedTable>;
  'mtree-table-diff-many': ManyTablesResult<DiffResult>;
  'mtree-teardown-table-many': ManyTablesResult<InitResult>;
  'table-diff-many': ManyTablesResult<DiffResult>;
}

export type ManyTablesName = keyof ManyTablesParams;
