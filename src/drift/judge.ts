import { steadyNowMs } from '../base/clock.js';
import type { Cluster } from '../cluster/cluster.js';
import { proveBlocks } from '../cluster/block-proof.js';
import { workOptions } from '../cluster/tree-building.js';
import { refreshAndSplit } from '../cluster/tree-work.js';
import { chunksOf } from '../diff/chunks.js';
import { keyId, type RowDifference } from '../diff/row-difference.js';
import { searchRows } from '../diff/row-search.js';
import { settle, type DriftedRow } from '../diff/settle.js';
import { differingBlocks, haveEqualLeaves } from '../diff/tree-diff.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { CommandContext } from '../protocol/commands.js';
import { letReplicationPass, PassageWarnings, type Replication } from '../replication/passage.js';
import { BlockCounter } from './drifted-block.js';

/** Rows that are compared at once, per node. */
const ROWS_PER_BATCH = 10_000;
/** Rows that move for longer are looked at again in the next round. */
const SETTLE_TIMEOUT_MS = 1_000;
const MAX_KEYS = 10;
/** A look at one table ends then, so that the first rows of many are told at once, and other tables get their turn. */
const SLICE_MS = 500;

export interface JudgeOptions {
  readonly cluster: Cluster;
  readonly table: TrackedTable;
  /** Those whose rows are compared: changes get to all of them. */
  readonly nodes: readonly string[];
  readonly replication: Replication;
  /** Nodes that record commit times. */
  readonly commitTimeNodes: ReadonlySet<string>;
  readonly context: CommandContext;
}

export interface Judgement {
  /** Blocks with rows that differ although replication has passed them. */
  readonly drifted: ReadonlyMap<number, BlockCounter>;
  /** Some of these rows. */
  readonly rows: readonly DriftedRow[];
  /** By block, the keys of rows that still moved, or that something holds up on their way. */
  readonly undecided: ReadonlyMap<number, ReadonlySet<string>>;
  /** Blocks that were not looked at for want of time. */
  readonly left: ReadonlySet<number>;
  /** What holds changes of the table up on their way; null: nothing that is known. */
  readonly heldUpBy: string | null;
}

/**
 * The blocks of a table that may differ: reads what is dirty, and compares the leaves. Holds the
 * table's mutex already, as do those below.
 */
export async function suspiciousBlocks({
  cluster,
  table,
  nodes,
  context,
}: JudgeOptions): Promise<number[]> {
  const work = { ...workOptions(cluster, undefined, context), nodes };
  return differingBlocks(table, work.nodes, await refreshAndSplit(cluster, table, work));
}

/**
 * Reads the rows of these blocks on all nodes, as many as there is time for, and tells drift from
 * replication in flight.
 */
export async function judgeBlocks(
  blocks: readonly number[],
  options: JudgeOptions,
): Promise<Judgement> {
  const drifted = new Map<number, BlockCounter>();
  const rows: DriftedRow[] = [];
  const undecided = new Map<number, ReadonlySet<string>>();
  let heldUpBy: string | null = null;
  const startedAtMs = steadyNowMs();
  const size = blocksPerBatch(options);
  let looked = 0;
  while (looked < blocks.length && (looked === 0 || steadyNowMs() - startedAtMs < SLICE_MS)) {
    const found = await judgeChunk(blocks.slice(looked, looked + size), options);
    looked += size;
    for (const [block, counter] of found.drifted) drifted.set(block, counter);
    for (const [block, keys] of found.undecided) undecided.set(block, keys);
    rows.push(...found.rows.slice(0, MAX_KEYS - rows.length));
    heldUpBy ??= found.heldUpBy;
  }
  return { drifted, rows, undecided, left: new Set(blocks.slice(looked)), heldUpBy };
}

/** By block, the keys of rows that differ between the nodes now, for whatever reason. */
export async function differingKeys(
  blocks: readonly number[],
  options: JudgeOptions,
): Promise<ReadonlyMap<number, ReadonlySet<string>>> {
  const keys = new Map<number, ReadonlySet<string>>();
  for (const chunk of chunksOf(blocks, blocksPerBatch(options))) {
    for (const [block, of] of keysByBlock(await searchBlocks(chunk, options), chunk)) {
      keys.set(block, of);
    }
  }
  return keys;
}

function blocksPerBatch({ table }: JudgeOptions): number {
  return Math.max(1, Math.floor(ROWS_PER_BATCH / table.blockRows));
}

function searchBlocks(
  blocks: readonly number[],
  { cluster, table, nodes, context }: JudgeOptions,
): Promise<RowDifference[]> {
  return searchRows(
    blocks.map((block) => table.layout.range(block)),
    { pools: cluster.poolsOf(nodes), sql: table.sql, spec: table.spec, signal: context.signal },
  );
}

function keysByBlock(
  rows: readonly RowDifference[],
  blocks: readonly number[],
): Map<number, Set<string>> {
  const keys = new Map<number, Set<string>>();
  for (const { range, key } of rows) {
    const block = blocks[range] ?? 0;
    const of = keys.get(block) ?? new Set<string>();
    keys.set(block, of.add(keyId(key)));
  }
  return keys;
}

/**
 * Leaves that differ over equal rows: one of them is wrong. Such are told, and read again. Errors:
 * those of proveBlocks().
 */
export async function proveUnexplained(
  suspicious: readonly number[],
  { drifted, undecided, left }: Judgement,
  { cluster, table, nodes, context }: JudgeOptions,
): Promise<void> {
  const unexplained = suspicious.filter(
    (block) =>
      !drifted.has(block) &&
      !undecided.has(block) &&
      !left.has(block) &&
      !haveEqualLeaves(table, nodes, block),
  );
  if (unexplained.length === 0) return;
  const positions = new Map(nodes.map((node) => [node, unexplained] as const));
  await proveBlocks(cluster, table, positions, {
    ...workOptions(cluster, undefined, context),
    foundBy: 'drift',
  });
}

async function judgeChunk(
  blocks: readonly number[],
  options: JudgeOptions,
): Promise<Omit<Judgement, 'left'>> {
  const { cluster, table, nodes, replication, commitTimeNodes, context } = options;
  const { signal } = context;
  const drifted = new Map<number, BlockCounter>();
  const rows: DriftedRow[] = [];
  const blockOf = (range: number): number => blocks[range] ?? 0;
  const differences = await searchBlocks(blocks, options);
  if (differences.length === 0) return { drifted, rows, undecided: new Map(), heldUpBy: null };
  const warnings = new PassageWarnings();
  const passing = {
    replication,
    table: table.spec,
    signal,
    onWarning: warnings.add,
  };
  const passage = await letReplicationPass(passing, SETTLE_TIMEOUT_MS);
  const { inFlight, isStarved } = await settle(differences, passage, {
    ...passing,
    pools: cluster.poolsOf(nodes),
    sql: table.sql,
    columns: table.spec.key.map(({ name }) => name),
    commitTimeNodes,
    timeoutMs: SETTLE_TIMEOUT_MS,
    onDrift: (found) => {
      for (const row of found) {
        const block = blockOf(row.range);
        let counter = drifted.get(block);
        if (counter === undefined) drifted.set(block, (counter = new BlockCounter()));
        counter.add(keyId(row.key), row.rows, nodes);
        if (rows.length < MAX_KEYS) rows.push(row);
      }
      return Promise.resolve();
    },
  });
  if (isStarved || passage.isRestricted) {
    const undecided = keysByBlock(differences, blocks);
    return { drifted: new Map(), rows: [], undecided, heldUpBy: warnings.texts.join('; ') };
  }
  return { drifted, rows, undecided: keysByBlock(inFlight, blocks), heldUpBy: null };
}
