import type { PositionMap } from '../merkle/layout.js';
import type { RowOperationKind } from '../merkle/row-digests.js';
import type { KeyText } from '../table/table-spec.js';
import { relayoutChanges, type LeafChange } from './leaf-change.js';
import { TransactionChanges } from './transaction-changes.js';

export interface RowChange {
  readonly kind: RowOperationKind;
  /** The row's digest is known: all its values are in the stream. */
  readonly isKnown: boolean;
  /** The change is exact without knowing the row's old digest from elsewhere. */
  readonly isExact: boolean;
  /** Of a deleted row: number of the transaction among those that took rows away; 0: not known. */
  readonly removal: number;
}

/** A change whose block only the server can tell. */
export interface UnlocatedChange {
  readonly key: KeyText;
  readonly change: RowChange;
  /** The row's digest and the key's, as two halves. */
  readonly digest: Int32Array;
  readonly keyDigest: Int32Array;
}

type UnlocatedStep = UnlocatedChange | 'reset' | 'all-unknown';

/**
 * A committed transaction that may not be applied yet: it, or one before it in the node's stream,
 * waits for the server to locate keys.
 */
interface HeldTransaction {
  readonly xid: number;
  changes: LeafChange[];
  steps: readonly UnlocatedStep[];
}

/** Keys -> positions of their blocks, in the same order. */
export type LocateKeys = (keys: readonly KeyText[]) => Promise<readonly number[]>;

export interface UnlocatedChangesOptions {
  readonly locate: LocateKeys;
  /** Positions are those of this layout; they count for nothing under another. */
  readonly layout: () => { readonly version: number; readonly size: number };
  /** Adds a change to those of its transaction, now that its block is known. */
  readonly record: (
    changes: TransactionChanges,
    position: number,
    unlocated: UnlocatedChange,
  ) => void;
}

/** Bounds what one transaction may hold: beyond it, reading all blocks again is the cheaper way. */
const MAX_OPEN_STEPS = 200_000;

/** Changes of one table whose blocks are not known yet, and those that came after them: see KeyLocation. */
export class UnlocatedChanges {
  readonly #options: UnlocatedChangesOptions;
  /** Of the open transaction. */
  #steps: UnlocatedStep[] = [];
  /** Oldest first. */
  #held: HeldTransaction[] = [];

  constructor(options: UnlocatedChangesOptions) {
    this.#options = options;
  }

  /** The open transaction has changes whose blocks only the server can tell. */
  get isOpen(): boolean {
    return this.#steps.length > 0;
  }

  add(change: UnlocatedChange): void {
    this.#step(change);
  }

  /** Whatever the open transaction did before is gone with all rows. */
  reset(): void {
    this.#steps = ['reset'];
  }

  markAllUnknown(): void {
    this.#step('all-unknown');
  }

  /**
   * Ends the open transaction and keeps it for take(), with what it did to blocks that are known.
   * Returns how many keys are to be located.
   */
  hold(xid: number, changes: LeafChange[]): number {
    const steps = this.#steps;
    this.#steps = [];
    this.#held.push({ xid, changes, steps });
    return steps.length;
  }

  /** What the oldest held transaction did, all of whose keys have been located. */
  take(): readonly LeafChange[] {
    const held = this.#held.shift();
    if (held === undefined || held.steps.length > 0) throw new RangeError('not located');
    return held.changes;
  }

  discard(): void {
    this.#steps = [];
    this.#held = [];
  }

  relayout(map: PositionMap): void {
    for (const held of this.#held) held.changes = relayoutChanges(held.changes, map);
  }

  /** Asks the server for the blocks of all keys held now; again when the layout changes meanwhile. */
  async locate(): Promise<void> {
    const { locate, layout } = this.#options;
    const waiting = this.#held.filter(({ steps }) => steps.length > 0);
    const keys = waiting.flatMap(({ steps }) =>
      steps.flatMap((step) => (typeof step === 'string' ? [] : [step.key])),
    );
    for (;;) {
      const { version } = layout();
      const positions = keys.length === 0 ? [] : await locate(keys);
      if (layout().version !== version) continue;
      this.#resolve(waiting, positions);
      return;
    }
  }

  #resolve(waiting: readonly HeldTransaction[], positions: readonly number[]): void {
    const { layout, record } = this.#options;
    const changes = new TransactionChanges(layout().size);
    let next = 0;
    for (const held of waiting) {
      for (const step of held.steps) {
        if (step === 'reset') changes.reset();
        else if (step === 'all-unknown') changes.markAllUnknown();
        else {
          const position = positions[next++];
          if (position === undefined) throw new RangeError('the server located too few keys');
          record(changes, position, step);
        }
      }
      held.changes = changes.take(held.xid);
      held.steps = [];
    }
  }

  #step(step: UnlocatedStep): void {
    const last = this.#steps.at(-1);
    if (last === 'all-unknown') return;
    if (this.#steps.length < MAX_OPEN_STEPS) this.#steps.push(step);
    else this.#steps = [...this.#steps.filter((old) => old === 'reset'), 'all-unknown'];
  }
}
