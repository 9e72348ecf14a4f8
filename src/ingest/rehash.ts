import { runAll, sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import { parseLsn, type Lsn } from '../base/lsn.js';
import { blocksPerStatement } from '../merkle/block-sql.js';
import type { LeafValue } from '../merkle/leaves.js';
import { BlockRows } from '../merkle/row-digests.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { isVisible, parseSnapshot, type Snapshot } from '../postgres/snapshot.js';
import { applyLeafChange } from './leaf-change.js';
import type { NodePipeline } from './pipeline.js';
import type { TrackedTable } from './tracked-table.js';

export interface RehashOptions {
  readonly table: TrackedTable;
  readonly pipeline: NodePipeline;
  readonly pool: SessionPool;
  readonly positions: readonly number[];
  /** Keeps the digests of the rows too, so that changes to them will be exact. */
  readonly keepsRows: boolean;
  /** Statements at once. */
  readonly concurrency: number;
  readonly signal: AbortSignal;
  readonly onProgress: (blocks: number) => void;
}

const HIDDEN_COMMIT_RETRY_MS = 20;
const HIDDEN_COMMIT_TIMEOUT_MS = 60_000;

/**
 * Reads blocks of one node again while its changes go on arriving; afterwards their leaves are
 * exact and clean, unless a change with an unknown old row came in between.
 * Returns each block's value as it was in the snapshot that it was read in.
 */
export async function rehash(options: RehashOptions): Promise<Map<number, LeafValue>> {
  const { table, positions, signal } = options;
  const perStatement = blocksPerStatement(table.blockRows);
  const values = new Map<number, LeafValue>();
  let next = 0;
  const work = async (workSignal: AbortSignal): Promise<void> => {
    while (next < positions.length) {
      const chunk = positions.slice(next, next + perStatement);
      next += perStatement;
      const read = await rehashChunk(options, chunk, workSignal);
      for (const [position, value] of read) values.set(position, value);
      options.onProgress(chunk.length);
    }
  };
  const workers = Array.from({ length: Math.max(1, options.concurrency) });
  await runAll(workers, signal, (_, workSignal) => work(workSignal));
  options.pipeline.touch();
  return values;
}

async function rehashChunk(
  options: RehashOptions,
  positions: readonly number[],
  signal: AbortSignal,
): Promise<ReadonlyMap<number, LeafValue>> {
  const { table, pipeline } = options;
  const deadline = Date.now() + HIDDEN_COMMIT_TIMEOUT_MS;
  for (;;) {
    const { epoch } = pipeline;
    await pipeline.rememberHiddenCommits();
    const applier = table.applier(pipeline.name);
    // Recording starts before the snapshot is taken: no change can fall between the two.
    const recording = applier.startRecording(new Set(positions));
    const reading = pipeline.recentXids.startReading();
    try {
      const read = await readBlocks(options, positions, signal);
      failpoint('rehash-read');
      // A stream that has started over goes on from a later position, with another applier: what
      // committed between the snapshot and that position is in neither.
      if (pipeline.epoch !== epoch) continue;
      if (!reading.isMissing(read.snapshot)) {
        const leaves = table.leaves(pipeline.name);
        const rowDigests = table.rowDigests(pipeline.name);
        const filter = pipeline.filters.add(read.snapshot, read.fence);
        for (const [position, value] of read.values) {
          leaves.set(position, value, false, filter);
          // Rows that were kept are of another snapshot than the leaf is now.
          rowDigests.delete(position);
          const rows = read.rows.get(position);
          if (rows !== undefined) rowDigests.set(position, rows);
        }
        for (const change of recording.changes) {
          if (isVisible(read.snapshot, change.xid)) continue;
          applyLeafChange({ leaves, rowDigests }, change, Date.now());
        }
        return read.values;
      }
    } finally {
      reading.end();
      applier.stopRecording(recording);
    }
    if (Date.now() > deadline) {
      throw new AcedError(
        'STALE_TREE',
        `node ${pipeline.name} has commits that are in its log but that no session can see yet`,
        { hint: 'synchronous replication is probably waiting for a standby that is down' },
      );
    }
    await sleep(HIDDEN_COMMIT_RETRY_MS, signal);
  }
}

interface BlocksRead {
  readonly values: ReadonlyMap<number, LeafValue>;
  /** Empty unless they are to be kept. */
  readonly rows: ReadonlyMap<number, BlockRows>;
  readonly snapshot: Snapshot;
  readonly fence: Lsn;
}

async function readBlocks(
  options: RehashOptions,
  positions: readonly number[],
  signal: AbortSignal,
): Promise<BlocksRead> {
  const { table, pool, keepsRows } = options;
  const ranges = positions.map((position) => ({
    number: position,
    ...table.layout.range(position),
  }));
  const query = keepsRows ? table.sql.packBlocks(ranges) : table.sql.hashBlocks(ranges);
  const answer = await pool.use(
    (session) => session.query(query.text, query.params, signal),
    signal,
  );
  const values = new Map<number, LeafValue>();
  const rows = new Map<number, BlockRows>();
  for (const [position, count, content] of answer) {
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
  return { values, rows, snapshot, fence: parseLsn(insertLsn ?? '') };
}
