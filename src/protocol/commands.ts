import type { StreamState, TableState } from './states.js';
import type {
  CanaryResult,
  DriftListResult,
  IncidentState,
  LiveVerdict,
  OpenCondition,
} from './drift.js';
import type { ManyTablesOutcomes, ManyTablesParams } from './many-tables.js';
import type { DoctorResult } from './doctor.js';
import type { NamesResult } from './names.js';
import type { ReplicationDiffResult } from './replication-diff.js';
import type { ApiRequest, RepairAudit, TasksParams, TasksResult } from './tasks.js';
import type { StructureDiffParams, StructureDiffResult } from './schema-diff.js';
import type { TopParams, TopResult } from './top.js';
import type { ServerAddress, Servers } from './servers.js';

/**
 * What acectl and the engine say to each other, over the socket or in one process. Version 1.
 * Requests are JSON; a command answers with NDJSON: any number of progress and log events, then
 * exactly one `result` or `error`.
 */
export const PROTOCOL_VERSION = 1;

export interface CommonParams {
  /** Empty: all nodes of the cluster. */
  readonly nodes?: readonly string[];
}

export interface TableParams extends CommonParams {
  /** `schema.table` as the user typed it; quoted identifiers allowed. */
  readonly table: string;
}

export interface BuildParams extends TableParams {
  readonly blockRows?: number;
  readonly maxCpuRatio?: number;
  readonly analyse?: boolean;
  readonly recreateObjects?: boolean;
  /** Names of columns that are not compared. */
  readonly excludeColumns?: readonly string[];
}

export interface UpdateParams extends TableParams {
  readonly rebalance?: boolean;
  readonly maxCpuRatio?: number;
  readonly skipCdc?: boolean;
  readonly cdcTimeoutMs?: number;
}

export interface TreeDiffParams extends TableParams {
  readonly output?: 'json' | 'html';
  /** Differing keys of two nodes that the page shows at most. */
  readonly maxHtmlRows?: number;
  /** As of `table-diff`. */
  readonly until?: string;
  readonly maxCpuRatio?: number;
  readonly skipCdc?: boolean;
  readonly cdcTimeoutMs?: number;
}

export interface VerifyParams extends CommonParams {
  /** Absent: all tables that have a tree. */
  readonly table?: string;
  readonly maxCpuRatio?: number;
  /** On each node, at most. */
  readonly rowsPerSecond?: number;
}

export interface TableDiffParams extends TableParams {
  readonly output?: 'json' | 'html';
  /** Differing keys of two nodes that the page shows at most. */
  readonly maxHtmlRows?: number;
  readonly blockSize?: number;
  readonly compareUnitSize?: number;
  readonly concurrencyFactor?: number;
  readonly tableFilter?: string;
  /** Compares the rows that some node has from this origin: a node, a replication origin or its number. */
  readonly againstOrigin?: string;
  /** RFC 3339: rows that some node has written later are left out. */
  readonly until?: string;
  /** Differences stored per pair of nodes; absent: as configured. */
  readonly maxDiffRows?: number;
  /** Only so many percent of the key ranges are compared: never a match. */
  readonly samplePercent?: number;
  /** `column=number`: rows that differ by no more are counted apart, and are not in the file. */
  readonly tolerances?: readonly string[];
  /** Goes on where an interrupted diff of the same table and options ended. */
  readonly resume?: boolean;
  /** Columns that are unique and not null: rows are matched by them in place of the primary key. */
  readonly key?: readonly string[];
  /** Names of the only columns that are compared, beside the key's. */
  readonly columns?: readonly string[];
  /** Names of columns that are not compared. */
  readonly excludeColumns?: readonly string[];
}

/** The table and, unless they are given, the nodes are those of the diff file. */
export interface RerunParams extends CommonParams {
  readonly output?: 'json' | 'html';
  /** Differing keys of two nodes that the page shows at most. */
  readonly maxHtmlRows?: number;
}

export interface DoctorParams extends CommonParams {
  /** Absent: the tables that have a tree, or all where none has. */
  readonly table?: string;
  /** Also whether what decodes the streams can be trusted; writes a canary on each node. */
  readonly decode?: boolean;
}

export interface RepairParams extends TableParams {
  /** As the diff had it. */
  readonly key?: readonly string[];
  readonly sourceOfTruth?: string;
  readonly dryRun?: boolean;
  readonly generateReport?: boolean;
  readonly insertOnly?: boolean;
  readonly upsertOnly?: boolean;
  /** Each node gets the rows that it lacks; there is no source of truth. */
  readonly bidirectional?: boolean;
  /** Each node gets the other one's values where it has NULL; there is no source of truth. */
  readonly fixNulls?: boolean;
  /** Rows keep the commit time that they have on the source, on nodes without Spock too. */
  readonly preserveOrigin?: boolean;
  /** The text of a repair plan, YAML or JSON; there is no source of truth. */
  readonly repairPlan?: string;
  /** The plan's SHA-256, in hexadecimal; another plan is refused. */
  readonly planHash?: string;
  /** What becomes of rows that are no longer what the diff saw; absent: they are skipped. */
  readonly stale?: 'skip' | 'apply' | 'fail';
  /** The rows as they were are written to a file per repaired node. */
  readonly saveUndo?: boolean;
  /** The input is such a file: its rows are put back. */
  readonly undo?: boolean;
  readonly fireTriggers?: boolean;
  /** The node of a diff with --against-origin is lost; its furthest survivor is the source of truth. */
  readonly recoveryMode?: boolean;
  /** Repair although it is not proved that the file's rows are drift, or that replication runs. */
  readonly allowUnproved?: boolean;
}

export interface IncidentParams extends CommonParams {
  readonly incident: string;
}

export interface AcknowledgeParams extends IncidentParams {
  /** Who has seen it; shown with the incident. */
  readonly by?: string;
}

export interface DriftRepairParams extends IncidentParams {
  readonly sourceOfTruth?: string;
  readonly fireTriggers?: boolean;
}

/** Command name -> parameters. */
export interface CommandParams extends ManyTablesParams {
  'mtree-init': CommonParams;
  'mtree-build': BuildParams;
  'mtree-update': UpdateParams;
  'mtree-verify': VerifyParams;
  'mtree-table-diff': TreeDiffParams;
  'mtree-teardown': CommonParams;
  'mtree-teardown-table': TableParams;
  'table-diff': TableDiffParams;
  'structure-diff': StructureDiffParams;
  'table-rerun': RerunParams;
  'replication-diff': CommonParams;
  doctor: DoctorParams;
  tasks: TasksParams;
  'table-repair': RepairParams;
  status: CommonParams;
  top: TopParams;
  names: CommonParams;
  'drift-list': CommonParams;
  'drift-show': IncidentParams;
  'drift-watch': CommonParams;
  'drift-ack': AcknowledgeParams;
  'drift-canary': CommonParams;
  'drift-repair': DriftRepairParams;
}

export type CommandName = keyof CommandParams;

/** Verdict on a table: only `match` means proved equal. */
export type Verdict =
  'match' | 'drift' | 'in_flight' | 'starved' | 'schema_mismatch' | 'unverified';

/** Every result that is about nodes says which servers they are. */
export interface OfServers {
  readonly servers: Servers;
}

/** One beginning of a diff that was interrupted, and what of the verdict is from then. */
export interface DiffPart {
  /** RFC 3339. */
  readonly startedAt: string;
  /** Node -> the write-ahead log position that this part holds at. */
  readonly positions: Readonly<Record<string, string>>;
  /** Ranges of the key. */
  readonly ranges: number;
}

export interface DiffResult {
  readonly table: string;
  readonly verdict: Verdict;
  readonly nodes: readonly string[];
  /** Node -> the write-ahead log position that the verdict holds at. */
  readonly positions: Readonly<Record<string, string>>;
  /** `n1/n2` -> rows that differ. */
  readonly differences: Readonly<Record<string, number>>;
  /** Groups of nodes whose rows are proved equal, one a node where it agrees with none; absent: not known. */
  readonly agreement?: readonly (readonly string[])[];
  /** `n1/n2` -> rows that differ within the tolerance, and are neither equal nor in `differences`. */
  readonly toleratedRows?: Readonly<Record<string, number>>;
  /** Rows that differ and were left out, for some node has written them after `until`. */
  readonly newerRows?: number;
  /** Only so many rows were looked at, those of a diff file; absent: all of the table. */
  readonly comparedRows?: number;
  /** Rows that still moved when settling gave up; neither equal nor different. */
  readonly inFlightRows: number;
  readonly rowLimitReached: boolean;
  readonly excludedColumns: readonly { readonly name: string; readonly reason: string }[];
  /** With --resume: from when each part is. `positions` are then those of the first. */
  readonly parts?: readonly DiffPart[];
  /** What a person must know beside the verdict, a sentence each. */
  readonly warnings: readonly string[];
  /** Blocks that differ though their rows do not seem to, or whose leaves were wrong: key ranges. */
  readonly unverifiedBlocks?: readonly {
    /** First key of the block, and of the next one; null: open. */
    readonly lower: readonly string[] | null;
    readonly upper: readonly string[] | null;
    readonly reason: string;
  }[];
  /** Names of files in the report directory, to be fetched; empty when the tables match. */
  readonly files: readonly string[];
  readonly timeTakenMs: number;
}

export interface BuildResult {
  readonly table: string;
  readonly blocks: number;
  readonly rows: Readonly<Record<string, number>>;
  readonly timeTakenMs: number;
}

export interface UpdateResult {
  readonly table: string;
  readonly refreshedBlocks: Readonly<Record<string, number>>;
  readonly splitBlocks: number;
  readonly mergedBlocks: number;
  readonly timeTakenMs: number;
}

export interface LeafText {
  readonly rows: number;
  /** Sum of the row digests, 16 hex digits. */
  readonly sum: string;
}

export interface VerifiedTable {
  readonly table: string;
  readonly blocks: number;
  readonly nodes: readonly string[];
  /** Leaves that were what their table says, over all nodes. */
  readonly provedLeaves: number;
  /** Leaves that claimed nothing (dirty), read from the table. */
  readonly rereadLeaves: number;
  /** Leaves that were not what their table says; they are mended. */
  readonly wrongLeaves: number;
  /** The first of them: what the leaf said, and what the table did at that moment. */
  readonly wrong: readonly {
    readonly node: string;
    readonly block: number;
    readonly leaf: LeafText;
    readonly read: LeafText;
  }[];
  /** The definition had changed: the tree was built again, which reads every block. */
  readonly isRebuilt: boolean;
  /** Why the table could not be verified as a whole. */
  readonly error: string | null;
}

export interface VerifyResult {
  readonly tables: readonly VerifiedTable[];
  readonly timeTakenMs: number;
}

export interface NodeRepairCounts {
  readonly upserted: number;
  readonly deleted: number;
  /** The row was no longer what the diff saw, on either node, or was locked: left alone. */
  readonly skipped: number;
  readonly failed: number;
  /** Nothing to do: the rows are the same by now. */
  readonly alreadyEqual?: number;
  /** The mode (insert only, upsert only) has nothing to do with them. */
  readonly left?: number;
}

/** A row that could not be written, with its key by column. */
export interface FailedRow {
  readonly node: string;
  readonly key: Readonly<Record<string, string>>;
  readonly reason: string;
}

export interface RepairResult {
  readonly table: string;
  readonly dryRun: boolean;
  readonly nodes: Readonly<Record<string, NodeRepairCounts>>;
  /**
   * Node -> sum of the digests of the rows that were written, as they were and as they are, 16 hex
   * digits; absent: a dry run.
   */
  readonly digests?: Readonly<Record<string, { readonly before: string; readonly after: string }>>;
  /** Rule of a repair plan -> rows that it was applied to. */
  readonly ruleMatches?: Readonly<Record<string, number>>;
  readonly warnings: readonly string[];
  readonly files: readonly string[];
  /** 1,000 of each node at most. */
  readonly failedRows?: readonly FailedRow[];
  /** With --recovery-mode. */
  readonly recovery?: {
    readonly lost: string;
    /** Survivor -> how far it has applied the lost node's log; null: nothing tells. */
    readonly applied: Readonly<Record<string, string | null>>;
    readonly source: string | null;
  };
  readonly timeTakenMs: number;
}

export interface NodeStatus {
  readonly name: string;
  readonly server: ServerAddress;
  readonly state: StreamState;
  readonly position: string | null;
  /** Bytes of log that the node has written beyond `position`; null: it could not be asked. */
  readonly lagBytes: number | null;
  /** Bytes of write-ahead log that the slot holds back; null: no slot, or it could not be asked. */
  readonly heldBytes: number | null;
  readonly slot: string;
  /** The node's process that streams from the slot; null: nobody does. */
  readonly slotPid: number | null;
  readonly error: string | null;
}

/** What the last diff of a table on all nodes and rows ended with. */
export interface LastDiff {
  readonly verdict: Verdict;
  /** ISO time. */
  readonly at: string;
  /** `n1/n2` -> rows that differed. */
  readonly differences: Readonly<Record<string, number>>;
  /** It compared columns that the tree leaves out: of those the streams tell nothing. */
  readonly isBeyondTree: boolean;
}

/** How all blocks of a table would be read on a node: along its key, or the table once in its own order. */
export interface ReadingStatus {
  readonly by: 'key' | 'table';
  /** What decided it. */
  readonly reason: string;
}

export interface NodeTableStatus {
  readonly rows: number;
  readonly dirtyBlocks: number;
  readonly root: string;
  /** Null: the node could not be asked. */
  readonly reading: ReadingStatus | null;
}

export interface TableStatus {
  readonly table: string;
  readonly state: TableState;
  /** Why it is in this state; with `live`: why another tree could not be built. */
  readonly reason: string | null;
  readonly blocks: number;
  /** When the block that was not read for longest was read (ISO 8601); null: one never was. */
  readonly oldestProof: string | null;
  /** How often a leaf was found not to be what its table says, ever; each was mended. */
  readonly wrongLeaves: number;
  readonly nodes: Readonly<Record<string, NodeTableStatus>>;
  /** Null: there was none yet. */
  readonly lastDiff: LastDiff | null;
  /** Null: nobody judges the table all the time. */
  readonly live: LiveVerdict | null;
}

/** Something that keeps `status` from vouching for what it shows. */
export interface StatusProblem {
  /** `different`: tables are known to differ; `trouble`: something is down, or not proved. */
  readonly kind: 'different' | 'trouble';
  /** A node, a table, or the cluster. */
  readonly subject: string;
  readonly message: string;
}

/** A subscription of the user's between two nodes, as the daemon last saw it. */
export interface SubscriptionStatus {
  readonly name: string;
  readonly from: string;
  readonly to: string;
  /** `down`: disabled or not connected; `behind`: it runs, and what is committed does not arrive. */
  readonly state: 'running' | 'down' | 'behind';
  /** RFC 3339. */
  readonly since: string;
  /** Log that it has not confirmed; null: unknown. */
  readonly behindBytes: number | null;
}

/** Which of several aced this is. */
export interface LeaseStatus {
  readonly role: 'active' | 'standby';
  /** Name, process and a mark of the active one; null: there was none yet. */
  readonly holder: string | null;
  /** Grows with every takeover. */
  readonly epoch: number;
}

export interface StatusResult {
  readonly cluster: string;
  readonly daemon: boolean;
  readonly pid: number;
  readonly version: string;
  readonly uptimeSeconds: number;
  /** Null: there is one aced. */
  readonly lease: LeaseStatus | null;
  readonly nodes: readonly NodeStatus[];
  /** Empty where no daemon watches them. */
  readonly subscriptions: readonly SubscriptionStatus[];
  readonly tables: readonly TableStatus[];
  /** What is not verified, or held up, as the daemon has told it. */
  readonly conditions: readonly OpenCondition[];
  /** What a daemon's aced.yaml says and nobody understands, a sentence each; no problem of the cluster. */
  readonly misspelt?: readonly string[];
  /** Empty: streams are up, trees live, and no last verdict says otherwise. */
  readonly problems: readonly StatusProblem[];
}

export interface InitResult {
  /** Node -> what was done, e.g. `created` or `already_initialised`. */
  readonly nodes: Readonly<Record<string, string>>;
}

export interface DriftRepairResult extends RepairResult {
  readonly incident: string;
  /** All streams have shown the fix. */
  readonly isResolved: boolean;
}

/** What a command itself works out. */
export interface CommandOutcomes extends ManyTablesOutcomes {
  'mtree-init': InitResult;
  'mtree-build': BuildResult;
  'mtree-update': UpdateResult;
  'mtree-verify': VerifyResult;
  'mtree-table-diff': DiffResult;
  'mtree-teardown': InitResult;
  'mtree-teardown-table': InitResult;
  'table-diff': DiffResult;
  'structure-diff': StructureDiffResult;
  'table-rerun': DiffResult;
  'replication-diff': ReplicationDiffResult;
  doctor: DoctorResult;
  tasks: TasksResult;
  'table-repair': RepairResult;
  status: StatusResult;
  top: TopResult;
  names: NamesResult;
  'drift-list': DriftListResult;
  'drift-show': IncidentState;
  'drift-watch': DriftListResult;
  'drift-ack': IncidentState;
  'drift-canary': CanaryResult;
  'drift-repair': DriftRepairResult;
}

/** What is answered: that, and of which servers it is. */
export type CommandResults = {
  readonly [Name in CommandName]: CommandOutcomes[Name] & OfServers;
};

export type ProgressEvent =
  | { readonly type: 'log'; readonly level: 'info' | 'warn'; readonly message: string }
  | {
      readonly type: 'progress';
      /** e.g. `Hashing initial ranges` */
      readonly phase: string;
      readonly done: number;
      readonly total: number;
    }
  /** drift-watch: an event as it stands in the log. */
  | { readonly type: 'drift'; readonly fields: Readonly<Record<string, unknown>> };

export interface CommandContext {
  readonly signal: AbortSignal;
  readonly emit: (event: ProgressEvent) => void;
  /** Directory where reports of this command are written: the user's own, or a spool of the daemon. */
  readonly reportDir: string;
  /** The scheduled job that runs the command. */
  readonly job?: string;
  /** The command is on many tables: a column that one of them lacks need not be of any. */
  readonly isOneOfMany?: boolean;
  /** table-repair, table-rerun: the diff file (the upload's spool file in the daemon). */
  readonly inputPath?: string;
  /** The diff file's name as the user gave it, for the report. */
  readonly inputName?: string;
  /** Who asks over the socket; null: the system does not tell. Absent: this process does. */
  readonly peerUid?: number | null;
  /** The common name of the certificate of who asks over TLS. */
  readonly certificate?: string;
  /** What was asked for over ACE's routes. */
  readonly api?: ApiRequest;
  /** What is to be remembered of a repair, at its end. */
  readonly onAudit?: (audit: RepairAudit) => void;
}

/** The engine behind both the socket and the in-process run. Errors are AcedError. */
export interface CommandRunner {
  run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    context: CommandContext,
  ): Promise<CommandResults[Name]>;
}

/** The last line of a command's NDJSON answer. */
export type CommandEnd =
  | { readonly type: 'result'; readonly result: CommandResults[CommandName] }
  | {
      readonly type: 'error';
      readonly code: string;
      readonly message: string;
      readonly hint: string | null;
    };
