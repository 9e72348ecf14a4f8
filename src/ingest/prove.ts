import { joinHalves, type LeafValue } from '../merkle/leaves.js';
import { isVisible } from '../postgres/snapshot.js';
import {
  readInChunks,
  readObserved,
  type BlockReadingOptions,
  type BlocksRead,
  type ReadingPipeline,
} from './block-reading.js';
import type { NodePipeline } from './pipeline.js';
import type { ChangeRecording } from './table-applier.js';

/**
 * What a clean leaf is worth:
 * - `proved`: it is what the table says.
 * - `wrong`: in the snapshot that the block was read in, `leaf` should have been `read`.
 * - `unknown`: a change of unknown size came in between, so that the leaf claims nothing.
 */
export type Proof =
  | { readonly kind: 'proved' }
  | { readonly kind: 'wrong'; readonly leaf: LeafValue; readonly read: LeafValue }
  | { readonly kind: 'unknown' };

export interface ProveOptions extends BlockReadingOptions {
  readonly pipeline: ReadingPipeline & Pick<NodePipeline, 'takeFence' | 'waitForPosition'>;
  /** How long the stream may take to pass a reading (ms). */
  readonly fenceTimeoutMs: number;
}

/**
 * Compares leaves of one node with its table while changes go on arriving; changes no leaf. Exact:
 * once the stream has passed the reading, the leaf less what was applied to it since by transactions
 * that the reading's snapshot does not show is what the snapshot has to show.
 * Errors: STARVED when the stream does not get there in time.
 */
export async function proveLeaves(options: ProveOptions): Promise<Map<number, Proof>> {
  return readInChunks(options, (positions, signal) =>
    readObserved(
      options,
      {
        positions,
        keepsRows: false,
        records: 'effects',
        use: async (read, recording) => {
          const { pipeline, fenceTimeoutMs } = options;
          const { epoch } = pipeline;
          // Not the position of the reading: on an idle node it may sit past the last record that
          // anybody will flush.
          const fence = await pipeline.takeFence(signal);
          await pipeline.waitForPosition(fence, fenceTimeoutMs, signal);
          return pipeline.epoch === epoch ? judge(options, read, recording) : undefined;
        },
      },
      signal,
    ),
  );
}

function judge(
  { table, pipeline }: ProveOptions,
  read: BlocksRead,
  recording: ChangeRecording,
): Map<number, Proof> {
  const leaves = table.leaves(pipeline.name);
  const later = effectsAfter(read, recording);
  const proofs = new Map<number, Proof>();
  for (const [position, value] of read.values) {
    const since = later.get(position);
    if (leaves.isDirty(position) || since === 'unknown') {
      proofs.set(position, { kind: 'unknown' });
      continue;
    }
    const now = leaves.value(position);
    const leaf = {
      rows: now.rows - (since?.rows ?? 0),
      sum: BigInt.asUintN(64, now.sum - (since?.sum ?? 0n)),
    };
    if (leaf.rows === value.rows && leaf.sum === value.sum) {
      leaves.proved(position, read.readAtMs);
      proofs.set(position, { kind: 'proved' });
    } else proofs.set(position, { kind: 'wrong', leaf, read: value });
  }
  return proofs;
}

/** By position, what transactions that the snapshot does not show have added to the leaves. */
function effectsAfter(
  { snapshot }: BlocksRead,
  recording: ChangeRecording,
): Map<number, LeafValue | 'unknown'> {
  const effects = new Map<number, LeafValue | 'unknown'>();
  for (const { position, xid, isReset, rows, sumLow, sumHigh } of recording.changes) {
    const before = effects.get(position) ?? { rows: 0, sum: 0n };
    if (before === 'unknown' || isVisible(snapshot, xid)) continue;
    effects.set(
      position,
      isReset
        ? 'unknown'
        : { rows: before.rows + rows, sum: before.sum + joinHalves(sumLow, sumHigh) },
    );
  }
  return effects;
}
