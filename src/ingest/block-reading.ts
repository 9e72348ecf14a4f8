import { steadyNowMs } from '../base/clock.js';
import { runAll, sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { parseLsn, type Lsn } from '../base/lsn.js';
import { blocksPerStatement, type BlockQuery } from '../merkle/block-sql.js';
import type { LeafValue } from '../merkle/leaves.js';
import { BlockRows } from '../merkle/row-digests.js';
import { parseSnapshot, type Snapshot } from '../postgres/snapshot.js';
import type { NodeServer } from './node-server.js';
import type { NodePipeline } from './pipeline.js';
import type { ChangeRecording, RecordingKind } from './table-applier.js';
import type { TrackedTable } from './tracked-table.js';

/** What of a node's pipeline a reading of its blocks depends on. */
export type ReadingPipeline = Pick<
  NodePipeline,
  'name' | 'epoch' | 'filters' | 'hiddenCommits' | 'touch'
>;

export interface BlockReadingOptions {
  readonly table: TrackedTable;
  readonly pipeline: ReadingPipeline;
  readonly server: Pick<NodeServer, 'read'>;
  readonly positions: readonly number[];
  /** Statements at once. */
  readonly concurrency: number;
  /** In one statement, the whole table in its own order: see readingOrder. */
  readonly isOnePass?: boolean;
  readonly signal: AbortSignal;
  readonly onProgress: (blocks: number) => void;
}

export interface BlocksRead {
  readonly values: ReadonlyMap<number, LeafValue>;
  /** Empty unless they were asked for. */
  readonly rows: ReadonlyMap<number, BlockRows>;
  readonly snapshot: Snapshot;
  /** At or past the commit of all that the snapshot shows. */
  readonly fence: Lsn;
  /** When the statement was sent (ms). */
  readonly readAtMs: number;
}

export interface ObservedReading<Result> {
  readonly positions: readonly number[];
  readonly keepsRows: boolean;
  readonly records: RecordingKind;
  /** Called in the tick in which the answer arrives, while changes are still recorded. Undefined: read again. */
  readonly use: (
    read: BlocksRead,
    recording: ChangeRecording,
  ) => Result | undefined | Promise<Result | undefined>;
}

const HIDDEN_COMMIT_RETRY_MS = 20;
const HIDDEN_COMMIT_TIMEOUT_MS = 60_000;

/** Reads blocks a statement's worth at a time; position -> what became of it. */
export async function readInChunks<Result>(
  options: BlockReadingOptions,
  read: (positions: readonly number[], signal: AbortSignal) => Promise<ReadonlyMap<number, Result>>,
): Promise<Map<number, Result>> {
  const { table, positions, signal } = options;
  const perStatement =
    options.isOnePass === true ? positions.length : blocksPerStatement(table.blockRows);
  const results = new Map<number, Result>();
  let next = 0;
  const work = async (workSignal: AbortSignal): Promise<void> => {
    while (next < positions.length) {
      const chunk = positions.slice(next, next + perStatement);
      next += perStatement;
      for (const [position, result] of await read(chunk, workSignal)) results.set(position, result);
      options.onProgress(chunk.length);
    }
  };
  const workers = Array.from({ length: Math.max(1, options.concurrency) });
  await runAll(workers, signal, (_, workSignal) => work(workSignal));
  options.pipeline.touch();
  return results;
}

/**
 * Reads blocks in one snapshot that shows all that is in their leaves already, while what the stream
 * brings meanwhile is recorded. Errors: STALE_TREE when a commit stays hidden from all sessions.
 */
export async function readObserved<Result>(
  options: BlockReadingOptions,
  reading: ObservedReading<Result>,
  signal: AbortSignal,
): Promise<Result> {
  const { table, pipeline } = options;
  const deadline = steadyNowMs() + HIDDEN_COMMIT_TIMEOUT_MS;
  for (;;) {
    const { epoch } = pipeline;
    await pipeline.hiddenCommits.remember();
    const applier = table.applier(pipeline.name);
    // Recording starts before the snapshot is taken: no change can fall between the two.
    const recording = applier.startRecording(new Set(reading.positions), reading.records);
    const xids = pipeline.hiddenCommits.startReading();
    try {
      const read = await readBlocks(options, reading, signal);
      failpoint('rehash-read');
      // A stream that has started over goes on from a later position, with another applier: what
      // committed between the snapshot and that position is in neither.
      if (pipeline.epoch !== epoch) continue;
      if (!xids.isMissing(read.snapshot)) {
        const result = await reading.use(read, recording);
        if (result !== undefined) return result;
        continue;
      }
    } finally {
      xids.end();
      applier.stopRecording(recording);
    }
    if (steadyNowMs() > deadline) {
      throw new AcedError(
        'STALE_TREE',
        `node ${pipeline.name} has commits that are in its log but that no session can see yet`,
        { hint: 'Synchronous replication is probably waiting for a standby that is down.' },
      );
    }
    await sleep(HIDDEN_COMMIT_RETRY_MS, signal);
  }
}

const EMPTY: LeafValue = { rows: 0, sum: 0n };

function rangeQuery(
  table: TrackedTable,
  positions: readonly number[],
  keepsRows: boolean,
): BlockQuery {
  const ranges = positions.map((position) => ({
    number: position,
    ...table.layout.range(position),
  }));
  return keepsRows ? table.sql.packBlocks(ranges) : table.sql.hashBlocks(ranges);
}

async function readBlocks(
  { table, server, isOnePass }: BlockReadingOptions,
  { positions, keepsRows }: Pick<ObservedReading<unknown>, 'positions' | 'keepsRows'>,
  signal: AbortSignal,
): Promise<BlocksRead> {
  const readAtMs = Date.now();
  const query =
    isOnePass === true && !keepsRows
      ? table.sql.hashTable(table.layout.boundaries)
      : rangeQuery(table, positions, keepsRows);
  const answer = await server.read(query, signal);
  const values = new Map<number, LeafValue>();
  const rows = new Map<number, BlockRows>();
  if (isOnePass === true) for (const position of positions) values.set(position, EMPTY);
  for (const [position, count, content] of answer) {
    // A pass answers for other blocks too.
    if (isOnePass === true && !values.has(Number(position))) continue;
    if (keepsRows) {
      // bytea as text: \x and the digits.
      const block = BlockRows.unpack(Buffer.from((content ?? '\\x').slice(2), 'hex'));
      if (block.count !== Number(count)) throw new AcedError('INTERNAL', 'a row was not packed');
      rows.set(Number(position), block);
      values.set(Number(position), { rows: block.count, sum: block.sum() });
    } else {
      const sum = BigInt.asUintN(64, BigInt(content ?? '0'));
      values.set(Number(position), { rows: Number(count), sum });
    }
  }
  if (values.size !== positions.length) {
    throw new AcedError(
      'INTERNAL',
      `${positions.length} blocks asked for, ${values.size} answered`,
    );
  }
  // One statement, one snapshot; whichever row's log position, it was taken after the snapshot.
  const [, , , snapshotText, insertLsn] = answer[0] ?? [];
  const snapshot = parseSnapshot(snapshotText ?? '');
  return { values, rows, snapshot, fence: parseLsn(insertLsn ?? ''), readAtMs };
}
