import { createHash } from 'node:crypto';
import { AcedError } from '../base/errors.js';
import type { TableSpec } from '../table/table-spec.js';
import type { Topology } from '../replication/topology.js';
import type { DiffFileHead } from '../diff-file/diff-reader.js';
import type { RepairParams } from '../protocol/commands.js';
import type { CopyMode } from './decision.js';
import { readPlan, type TablePlan } from './plan-file.js';

/** Two nodes of the file, of which the target, or each, is to get something of the other one. */
export interface RepairPair {
  /** As the file names it. */
  readonly name: string;
  readonly source: string;
  readonly target: string;
}

/** How it is decided what becomes of the rows. */
export type RepairWay =
  | { readonly kind: 'source'; readonly source: string; readonly mode: CopyMode }
  /** Each node gets the rows that it lacks. */
  | { readonly kind: 'bidirectional' }
  /** Each node gets the other one's values where it has NULL. */
  | { readonly kind: 'fix-nulls' }
  /** A plan says of each row what becomes of it. */
  | { readonly kind: 'plan'; readonly plan: TablePlan; readonly usesMetadata: boolean }
  /** Rows become what they were before another repair. */
  | { readonly kind: 'undo' };

/** Flags that say what to do with the rows, by their parameter. */
const WAY_FLAGS = {
  insertOnly: '--insert-only',
  upsertOnly: '--upsert-only',
  bidirectional: '--bidirectional',
  fixNulls: '--fix-nulls',
  repairPlan: '--repair-plan',
} as const;

type WayFlag = keyof typeof WAY_FLAGS;

const EXCLUSIVE: readonly (readonly [WayFlag, WayFlag, hint: string])[] = [
  [
    'insertOnly',
    'upsertOnly',
    'Use --insert-only for missing rows alone, --upsert-only for everything but deletes.',
  ],
  ['bidirectional', 'upsertOnly', 'Rows that differ have no right side in both directions.'],
  ['bidirectional', 'fixNulls', 'Run one after the other, with a diff in between.'],
  ['fixNulls', 'insertOnly', 'Rows that a node lacks have no NULLs to fill.'],
  ['fixNulls', 'upsertOnly', '--fix-nulls updates rows, and nothing else.'],
  ...(['insertOnly', 'upsertOnly', 'bidirectional', 'fixNulls'] as const).map(
    (flag) => ['repairPlan', flag, 'The plan says itself what is to be done.'] as const,
  ),
];

export interface WayFacts {
  /** `schema.table` */
  readonly table: string;
  readonly clusterNodes: readonly string[];
  readonly usableNodes: readonly string[];
}

/** Checks the flags. Errors: BAD_USAGE, UNKNOWN_NODE. */
export function repairWay(
  params: RepairParams,
  { table, clusterNodes, usableNodes }: WayFacts,
): RepairWay {
  if (params.undo === true) {
    checkAlone(params);
    return { kind: 'undo' };
  }
  for (const [one, other, hint] of EXCLUSIVE) {
    if (!isGiven(params[one]) || !isGiven(params[other])) continue;
    throw excluded(WAY_FLAGS[one], WAY_FLAGS[other], hint);
  }
  if (params.repairPlan !== undefined) return planWay(params.repairPlan, params, table);
  if (params.planHash !== undefined) {
    throw new AcedError('BAD_USAGE', '--plan-hash is given without --repair-plan', {
      hint: 'Leave it out, or name the plan.',
    });
  }
  if (takesSource(params)) return sourceWay(params, clusterNodes, usableNodes);
  const twoWay = params.bidirectional === true ? 'bidirectional' : 'fix-nulls';
  if (params.sourceOfTruth === undefined) return { kind: twoWay };
  throw excluded(
    `--${twoWay}`,
    '--source-of-truth',
    'Leave one out: with a source of truth only the other nodes are written.',
  );
}

/** Whether one node's rows are what the others get. */
export function takesSource({ bidirectional, fixNulls, repairPlan }: RepairParams): boolean {
  return bidirectional !== true && fixNulls !== true && repairPlan === undefined;
}

/** Errors: BAD_USAGE, UNKNOWN_NODE. */
function sourceWay(
  params: RepairParams,
  clusterNodes: readonly string[],
  usableNodes: readonly string[],
): RepairWay {
  const source = sourceOfTruth(params, clusterNodes, usableNodes);
  const isInsertOnly = params.insertOnly === true;
  const deletes = !isInsertOnly && params.upsertOnly !== true;
  return { kind: 'source', source, mode: { inserts: true, updates: !isInsertOnly, deletes } };
}

function isGiven(value: unknown): boolean {
  return value !== undefined && value !== false;
}

/** Errors: BAD_USAGE. */
function planWay(text: string, { planHash }: RepairParams, table: string): RepairWay {
  const hash = hashOf(text);
  if (planHash !== undefined && planHash.toLowerCase() !== hash) {
    throw new AcedError('BAD_USAGE', `the repair plan's SHA-256 is ${hash}, not ${planHash}`, {
      hint: 'Somebody has changed the plan since it was looked at: look at it again.',
    });
  }
  // Commit times and origins cost a look-up of each row.
  const usesMetadata = /commit_ts|node_origin/.test(text);
  return { kind: 'plan', plan: readPlan(text, table), usesMetadata };
}

/** SHA-256 in hexadecimal. */
export function hashOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

/** An undo file says itself what is to be done. */
function checkAlone(params: RepairParams): void {
  const flags: string[] = Object.entries(WAY_FLAGS).flatMap(([name, flag]) =>
    isGiven(params[name as WayFlag]) ? [flag] : [],
  );
  if (params.sourceOfTruth !== undefined) flags.push('--source-of-truth');
  if (params.stale !== undefined) flags.push('--stale');
  if (params.recoveryMode === true) flags.push('--recovery-mode');
  const [first] = flags;
  if (first === undefined) return;
  throw excluded('--undo', first, 'Leave it out: the undo file says what the rows were.');
}

function excluded(one: string, other: string, hint: string): AcedError {
  return new AcedError('BAD_USAGE', `${one} and ${other} exclude each other`, { hint });
}

export interface RequestFacts {
  /** Null: all pairs of the file are repaired. */
  readonly source: string | null;
  readonly head: DiffFileHead;
  readonly path: string;
  readonly spec: TableSpec;
  /** All nodes of the cluster's definition. */
  readonly clusterNodes: readonly string[];
  /** Those that this repair may touch. */
  readonly usableNodes: readonly string[];
  /** A file that was made with --against-origin will do. */
  readonly isRecovery: boolean;
}

export interface RepairRequest {
  readonly pairs: readonly RepairPair[];
  readonly warnings: readonly string[];
}

/**
 * Checks the file against table and source of truth and finds the pairs of nodes to repair. Pure.
 * Errors: UNKNOWN_NODE, BAD_DIFF_FILE, UNSUPPORTED.
 */
export function repairRequest(facts: RequestFacts): RepairRequest {
  const { source, head, path, clusterNodes, usableNodes } = facts;
  checkFile(facts);
  const warnings: string[] = [];
  if (head.isLimitReached) {
    warnings.push(
      'The diff file does not hold all differences (its row limit was reached): run the diff again after this repair.',
    );
  }
  const pairs: RepairPair[] = [];
  const leftAlone = new Set<string>();
  let hasSource = false;
  for (const { name, rows } of head.pairs) {
    const nodes = pairNodes(name, Object.keys(rows));
    const from = source ?? nodes[0];
    if (from === undefined || !nodes.includes(from)) continue;
    hasSource = true;
    const unknown = nodes.find((node) => !clusterNodes.includes(node));
    if (unknown !== undefined) {
      throw unknownNode(unknown, `the diff file's pair ${name}`, clusterNodes);
    }
    const unusable = nodes.filter((node) => !usableNodes.includes(node));
    for (const node of unusable) leftAlone.add(node);
    for (const target of nodes.filter((other) => other !== from)) {
      if (unusable.includes(target) || unusable.includes(from)) continue;
      pairs.push({ name, source: from, target });
    }
  }
  for (const node of leftAlone) {
    warnings.push(`Node ${node} is left alone: it is not among the chosen nodes.`);
  }
  if (source !== null && head.pairs.length > 0 && !hasSource) {
    const names = head.pairs.map(({ name }) => name).join(', ');
    throw new AcedError('BAD_DIFF_FILE', `${path} has no pair with ${source}, only ${names}`, {
      hint: 'Name one of the nodes of the file as the source of truth, or run the diff again.',
    });
  }
  return { pairs, warnings };
}

/** The source of truth. Errors: BAD_USAGE, UNKNOWN_NODE. */
function sourceOfTruth(
  params: RepairParams,
  clusterNodes: readonly string[],
  usableNodes: readonly string[],
): string {
  const source = params.sourceOfTruth;
  if (source === undefined || source === '') {
    throw new AcedError('BAD_USAGE', 'no source of truth is given', {
      hint: `Name the node whose rows are right: --source-of-truth <${clusterNodes.join('|')}>.`,
    });
  }
  if (!clusterNodes.includes(source)) {
    throw unknownNode(source, '--source-of-truth', clusterNodes);
  }
  if (!usableNodes.includes(source)) {
    throw new AcedError('BAD_USAGE', `the source of truth ${source} is not among --nodes`, {
      hint: 'Add it to --nodes, or leave --nodes out.',
    });
  }
  return source;
}

export function checkFile({
  head,
  path,
  spec,
  isRecovery,
}: Pick<RequestFacts, 'head' | 'path' | 'spec' | 'isRecovery'>): void {
  if (head.schema !== spec.schema || head.table !== spec.name) {
    throw new AcedError(
      'BAD_DIFF_FILE',
      `${path} is about table ${head.schema}.${head.table}, not ${spec.schema}.${spec.name}`,
      { hint: 'Give the diff file of this table, or name the table of the file.' },
    );
  }
  const key = spec.key.map((column) => column.name);
  const fileKey = head.primaryKey;
  if (fileKey.length > 0 && !sameNames(fileKey, key)) {
    throw new AcedError(
      'BAD_DIFF_FILE',
      `${path} has rows by the key (${fileKey.join(', ')}), but the table's key is (${key.join(', ')})`,
      {
        hint: `Give --key ${fileKey.join(',')} if the diff had it; else the key has changed since: run the diff again.`,
      },
    );
  }
  if (head.againstOrigin !== null && !isRecovery) {
    throw new AcedError('BAD_USAGE', `${path} was made with --against-origin`, {
      hint: `Give --recovery-mode if ${head.againstOrigin} is lost for good, with or without a --source-of-truth; else run the diff without --against-origin.`,
    });
  }
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}

/** The nodes with rows in the pair, and those in its name: a node without rows may be left out. */
function pairNodes(name: string, withRows: readonly string[]): string[] {
  const named = name.split('/');
  const nodes = [...new Set([...(withRows.length >= 2 ? [] : named), ...withRows])];
  // In the order of the name: what a plan calls n1 and n2.
  return nodes.sort((a, b) => named.indexOf(a) - named.indexOf(b));
}

function unknownNode(node: string, where: string, nodes: readonly string[]): AcedError {
  return new AcedError(
    'UNKNOWN_NODE',
    `${where} names ${node}, which is not a node of the cluster`,
    {
      hint: `The cluster's nodes are ${nodes.join(', ')}.`,
    },
  );
}

/**
 * What makes a repair of these nodes come back through replication, a sentence per subscription.
 * Repairs carry an origin of their own, which only `origin = none` subscriptions leave out. Where
 * another one applied the repair again, an insert would meet its own row and stop replication.
 */
export function echoes(topology: Topology, nodes: ReadonlySet<string>): AcedError[] {
  return topology.edges
    .filter((edge) => nodes.has(edge.from) && edge.kind === 'native' && edge.originMode === 'any')
    .map(
      ({ from, to, subscription }) =>
        new AcedError(
          'REPAIR_ECHO',
          `a repair of ${from} would be replicated to ${to} by subscription ${subscription}`,
          {
            hint: `On ${to}: ALTER SUBSCRIPTION "${subscription.replaceAll('"', '""')}" SET (origin = none); needs PostgreSQL 16 on both nodes.`,
          },
        ),
    );
}
