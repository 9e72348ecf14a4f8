import { createRowHasher, type RowHasher } from '../digest/row-hasher.js';
import type { DigestSeed } from '../digest/spec.js';
import type { Locator } from '../merkle/locator.js';
import type { LeafSet } from '../merkle/leaves.js';
import type { LayoutChange, PositionMap } from '../merkle/layout.js';
import {
  COLUMN_NULL,
  COLUMN_TEXT,
  COLUMN_UNCHANGED,
  type OldTupleKind,
  type Relation,
  type Tuple,
} from '../pgoutput/message.js';
import type { KeyText, TableSpec } from '../postgres/table-spec.js';
import { trimNumericText } from '../digest/numeric-text.js';
import { applyLeafChange, joinLeafChanges, type LeafChange } from './leaf-change.js';
import type { SnapshotFilters } from './snapshot-filters.js';
import { TransactionChanges } from './transaction-changes.js';

const MAX_OPEN_STEPS = 200_000;

/** A change whose block only the server can tell. */
interface UnlocatedChange {
  readonly key: KeyText;
  readonly rows: number;
  readonly sumLow: number;
  readonly sumHigh: number;
  readonly isUnknown: boolean;
}

type UnlocatedStep = UnlocatedChange | 'reset' | 'all-unknown';

/**
 * A committed transaction that may not be applied yet: it, or one before it in the node's stream,
 * waits for the server to locate keys. Transactions take effect in order or not at all.
 */
interface HeldTransaction {
  readonly xid: number;
  changes: LeafChange[];
  steps: readonly UnlocatedStep[];
}

/** Blocks that are being read while their changes go on arriving. */
export interface ChangeRecording {
  readonly positions: ReadonlySet<number>;
  readonly changes: LeafChange[];
}

export interface TableApplierOptions {
  readonly spec: TableSpec;
  readonly seed: DigestSeed;
  readonly leaves: LeafSet;
  readonly filters: SnapshotFilters;
  readonly locator: Locator | null;
  /** The table's Relation no longer fits the spec: somebody must look at the catalog. */
  readonly onSchemaChange: (reason: string) => void;
}

/** Where each compared column and each key column is in the tuples of the current Relation. */
interface TupleMapping {
  readonly hasher: RowHasher | null;
  readonly keyColumns: Int32Array | null;
  readonly isKeyInIdentity: boolean;
  readonly signature: string;
}

/** Turns one table's row changes on one node into changes of its leaves. Pure of I/O. */
export class TableApplier {
  readonly #options: TableApplierOptions;
  readonly #digest = new Int32Array(2);
  readonly #changes: TransactionChanges;
  readonly #recordings = new Set<ChangeRecording>();
  #locator: Locator | null;
  #mapping: TupleMapping | null = null;
  #openSteps: UnlocatedStep[] = [];
  #held: HeldTransaction[] = [];

  constructor(options: TableApplierOptions) {
    this.#options = options;
    this.#locator = options.locator;
    this.#changes = new TransactionChanges(options.leaves.size);
  }

  /** A Relation message describes the tuples that follow it. */
  relation(relation: Relation): void {
    const mapping = mapTuples(relation, this.#options.spec, this.#options.seed);
    const before = this.#mapping;
    this.#mapping = mapping;
    if (mapping.hasher === null || mapping.keyColumns === null) {
      this.#options.onSchemaChange('a compared column is missing from the stream');
    } else if (before !== null && before.signature !== mapping.signature) {
      this.#options.onSchemaChange('the columns of the table have changed');
    }
  }

  insert(tuple: Tuple): void {
    this.#addRow(tuple, 1);
  }

  update(oldKind: OldTupleKind, oldTuple: Tuple, newTuple: Tuple): void {
    if (oldKind === 'full') {
      fillUnchanged(newTuple, oldTuple);
      this.#addRow(oldTuple, -1);
      this.#addRow(newTuple, 1);
      return;
    }
    if (oldKind === 'key') {
      if (this.#mapping?.isKeyInIdentity === true) this.#markRow(oldTuple);
      else this.#markAll();
    } else if (this.#mapping?.isKeyInIdentity !== true) {
      // The identity is another index: the primary key may have changed without a word of it.
      this.#markAll();
      return;
    }
    this.#markRow(newTuple);
  }

  delete(oldKind: OldTupleKind, oldTuple: Tuple): void {
    if (oldKind === 'full') this.#addRow(oldTuple, -1);
    else if (oldKind === 'key' && this.#mapping?.isKeyInIdentity === true) this.#markRow(oldTuple);
    else this.#markAll();
  }

  truncate(): void {
    if (this.#locator === null) this.#openSteps = ['reset'];
    else this.#changes.reset();
  }

  /** The open transaction has changes whose blocks only the server can tell. */
  get mustHold(): boolean {
    return this.#openSteps.length > 0;
  }

  /** Ends the open transaction and applies it. */
  commit(xid: number, nowMs: number): void {
    if (!this.#changes.isEmpty) this.#apply(this.#changes.take(xid), nowMs);
  }

  /** Ends the open transaction and keeps it for applyHeld. */
  hold(xid: number): void {
    const changes = this.#changes.isEmpty ? [] : this.#changes.take(xid);
    this.#held.push({ xid, changes, steps: this.#openSteps });
    this.#openSteps = [];
  }

  /** Applies the oldest held transaction, whose keys must have been located. */
  applyHeld(nowMs: number): void {
    const held = this.#held.shift();
    if (held === undefined || held.steps.length > 0) throw new RangeError('not located');
    this.#apply(held.changes, nowMs);
  }

  /** The connection ended: whatever was not applied will come again. */
  discard(): void {
    this.#changes.discard();
    this.#openSteps = [];
    this.#held = [];
  }

  /** Asks the server for the blocks of all keys held now; again when the layout changes meanwhile. */
  async locateHeld(
    locate: (keys: readonly KeyText[]) => Promise<readonly number[]>,
    layoutVersion: () => number,
  ): Promise<void> {
    const waiting = this.#held.filter(({ steps }) => steps.length > 0);
    const keys = waiting.flatMap(({ steps }) =>
      steps.flatMap((step) => (typeof step === 'string' ? [] : [step.key])),
    );
    for (;;) {
      const version = layoutVersion();
      const positions = keys.length === 0 ? [] : await locate(keys);
      if (layoutVersion() !== version) continue;
      this.#resolve(waiting, positions);
      return;
    }
  }

  get heldSteps(): number {
    return this.#held.reduce((count, { steps }) => count + steps.length, 0);
  }

  /** From now on keeps a copy of every change to these blocks, until stopRecording. */
  startRecording(positions: ReadonlySet<number>): ChangeRecording {
    const recording: ChangeRecording = { positions, changes: [] };
    this.#recordings.add(recording);
    return recording;
  }

  stopRecording(recording: ChangeRecording): void {
    this.#recordings.delete(recording);
  }

  relayout(locator: Locator | null, { layout, map }: LayoutChange): void {
    if (this.#recordings.size > 0) throw new RangeError('layout changed while blocks are read');
    this.#locator = locator;
    this.#changes.relayout(layout.size, map);
    for (const held of this.#held) held.changes = relayoutChanges(held.changes, map);
  }

  /** Located steps -> changes by block. The open transaction's own changes are never touched. */
  #resolve(waiting: readonly HeldTransaction[], positions: readonly number[]): void {
    const changes = new TransactionChanges(this.#options.leaves.size);
    let next = 0;
    for (const held of waiting) {
      for (const step of held.steps) {
        if (step === 'reset') changes.reset();
        else if (step === 'all-unknown') changes.markAllUnknown();
        else {
          const position = positions[next++];
          if (position === undefined) throw new RangeError('the server located too few keys');
          if (step.isUnknown) changes.markUnknown(position);
          else changes.add(position, step.rows, step.sumLow, step.sumHigh);
        }
      }
      held.changes = changes.take(held.xid);
      held.steps = [];
    }
  }

  #apply(changes: readonly LeafChange[], nowMs: number): void {
    const { leaves, filters } = this.#options;
    for (const change of changes) {
      for (const recording of this.#recordings) {
        if (recording.positions.has(change.position)) recording.changes.push(change);
      }
      const filter = leaves.filters[change.position] ?? 0;
      if (filter !== 0 && filters.shows(filter, change.xid)) continue;
      applyLeafChange(leaves, change, nowMs);
    }
  }

  #addRow(tuple: Tuple, rows: 1 | -1): void {
    const mapping = this.#mapping;
    if (mapping?.keyColumns == null || !isLocatable(tuple, mapping.keyColumns)) {
      this.#markAll();
      return;
    }
    const digest = this.#digest;
    const isKnown = mapping.hasher?.hash(tuple, digest) === true;
    const low = digest[0] ?? 0;
    const high = digest[1] ?? 0;
    if (this.#locator === null) {
      const negativeLow = -low | 0;
      const negativeHigh = (~high + (negativeLow === 0 ? 1 : 0)) | 0;
      this.#step({
        key: this.#keyText(tuple, mapping.keyColumns),
        rows,
        sumLow: rows === 1 ? low : negativeLow,
        sumHigh: rows === 1 ? high : negativeHigh,
        isUnknown: !isKnown,
      });
      return;
    }
    const position = this.#locator.locateTuple(tuple, mapping.keyColumns);
    if (!isKnown) this.#changes.markUnknown(position);
    else if (rows === 1) this.#changes.add(position, 1, low, high);
    else this.#changes.subtract(position, 1, low, high);
  }

  #markRow(tuple: Tuple): void {
    const keyColumns = this.#mapping?.keyColumns;
    if (keyColumns == null || !isLocatable(tuple, keyColumns)) this.#markAll();
    else if (this.#locator !== null) {
      this.#changes.markUnknown(this.#locator.locateTuple(tuple, keyColumns));
    } else {
      const key = this.#keyText(tuple, keyColumns);
      this.#step({ key, rows: 0, sumLow: 0, sumHigh: 0, isUnknown: true });
    }
  }

  /** Bounds what one transaction may hold: beyond it, reading all blocks again is the cheaper way. */
  #step(step: UnlocatedStep): void {
    const last = this.#openSteps.at(-1);
    if (last === 'all-unknown') return;
    if (this.#openSteps.length < MAX_OPEN_STEPS) this.#openSteps.push(step);
    else this.#openSteps = [...this.#openSteps.filter((old) => old === 'reset'), 'all-unknown'];
  }

  #markAll(): void {
    if (this.#locator === null) this.#step('all-unknown');
    else this.#changes.markAllUnknown();
  }

  #keyText(tuple: Tuple, keyColumns: Int32Array): KeyText {
    return this.#options.spec.key.map((column, i) => {
      const index = keyColumns[i] ?? 0;
      const text = tuple.buffer.toString('utf8', tuple.starts[index], tuple.ends[index]);
      return column.textForm === 'numeric' ? trimNumericText(text) : text;
    });
  }
}

/**
 * The changes of one transaction under a new layout, one for each block: a second one for a block
 * that was emptied would empty it again. What happened to a block that was split is a change of
 * unknown size to each of its parts.
 */
function relayoutChanges(changes: readonly LeafChange[], map: PositionMap): LeafChange[] {
  const moved = new Map<number, LeafChange>();
  for (const change of changes) {
    const [first, last] = map(change.position);
    const isUnknown = !change.isReset || change.rows !== 0 || change.isUnknown;
    const part = first === last ? change : { ...change, isUnknown, rows: 0, sumLow: 0, sumHigh: 0 };
    for (let position = first; position <= last; position++) {
      const other = moved.get(position);
      const here = { ...part, position };
      moved.set(position, other === undefined ? here : joinLeafChanges(other, here));
    }
  }
  return [...moved.values()];
}

function isLocatable(tuple: Tuple, keyColumns: Int32Array): boolean {
  for (const index of keyColumns) {
    if (index >= tuple.columnCount || tuple.kinds[index] !== COLUMN_TEXT) return false;
  }
  return true;
}

/** Under FULL the old row has the values of TOAST columns that the new one leaves out. */
function fillUnchanged(newTuple: Tuple, oldTuple: Tuple): void {
  for (let i = 0; i < newTuple.columnCount; i++) {
    if (newTuple.kinds[i] !== COLUMN_UNCHANGED) continue;
    newTuple.kinds[i] = oldTuple.kinds[i] ?? COLUMN_NULL;
    newTuple.starts[i] = oldTuple.starts[i] ?? 0;
    newTuple.ends[i] = oldTuple.ends[i] ?? 0;
  }
}

function mapTuples(relation: Relation, spec: TableSpec, seed: DigestSeed): TupleMapping {
  const indexes = new Map(relation.columns.map((column, index) => [column.name, index]));
  const keyColumns = spec.key.map((column) => indexes.get(column.name));
  const compared = spec.columns.map((column) => indexes.get(column.name));
  const isComplete = (list: readonly (number | undefined)[]): list is number[] =>
    list.every((index) => index !== undefined);
  return {
    hasher: isComplete(compared)
      ? createRowHasher(
          seed,
          compared.map((tupleIndex, i) => ({
            tupleIndex,
            textForm: spec.columns[i]?.textForm ?? 'plain',
          })),
        )
      : null,
    keyColumns: isComplete(keyColumns) ? Int32Array.from(keyColumns) : null,
    isKeyInIdentity:
      relation.replicaIdentity === 'full' ||
      keyColumns.every(
        (index) => index !== undefined && relation.columns[index]?.isIdentity === true,
      ),
    signature: JSON.stringify([
      relation.replicaIdentity,
      relation.columns.map(({ name, typeOid, typeModifier }) => [name, typeOid, typeModifier]),
    ]),
  };
}
