import type { DigestSeed } from '../digest/digest-column.js';
import type { Locator } from '../merkle/locator.js';
import { highHalf, lowHalf, type LeafSet } from '../merkle/leaves.js';
import type { BlockLayout, LayoutChange } from '../merkle/layout.js';
import type { OldTupleKind, Relation, Tuple } from '../pgoutput/message.js';
import {
  ROW_DELETED,
  ROW_INSERTED,
  ROW_UPDATED,
  type RowOperationKind,
  type TableRowDigests,
} from '../merkle/row-digests.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import { trimNumericText } from '../digest/numeric-text.js';
import type { OpenRows, ShownRow } from './open-rows.js';
import type { ShownTransaction } from './removals.js';
import { applyLeafChange, type LeafChange } from './leaf-change.js';
import type { SnapshotFilters } from './snapshot-filters.js';
import { TransactionChanges } from './transaction-changes.js';
import {
  fillUnchanged,
  isLocatable,
  mapTuples,
  NOTHING_KNOWN,
  oldRowsOf,
  type OldRows,
  type TupleMapping,
} from './tuple-mapping.js';
import { UnlocatedChanges, type LocateKeys, type RowChange } from './unlocated-changes.js';

/**
 * - `changes`: what the stream says happened to the blocks.
 * - `effects`: what their leaves gained by it; nothing where a leaf held the transaction already.
 */
export type RecordingKind = 'changes' | 'effects';

/** Blocks that are being read while their changes go on arriving. */
export interface ChangeRecording {
  readonly kind: RecordingKind;
  readonly positions: ReadonlySet<number>;
  readonly changes: LeafChange[];
}

export interface TableApplierOptions {
  readonly spec: TableSpec;
  readonly seed: DigestSeed;
  readonly leaves: LeafSet;
  readonly rowDigests: TableRowDigests;
  readonly filters: SnapshotFilters;
  readonly locator: Locator | null;
  /** OIDs of the partitions that were read into the leaves; null: the table is not partitioned. */
  readonly partitions: readonly number[] | null;
  /** Asks the server, where `locator` is null. */
  readonly locateKeys: LocateKeys;
  /** The layout of the leaves now. */
  readonly layout: () => BlockLayout;
  /** Where rows are followed one by one until all streams show them alike; null: they are not. */
  readonly openRows: NodeOpenRows | null;
  /** The one that the stream is in. */
  readonly transaction: () => ShownTransaction;
  /** The table's Relation no longer fits the spec: somebody must look at the catalog. */
  readonly onSchemaChange: (reason: string) => void;
}

export interface NodeOpenRows {
  readonly rows: OpenRows;
  /** Index of this applier's node. */
  readonly node: number;
  readonly now: () => number;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** Turns one table's row changes on one node into changes of its leaves. Pure of I/O. */
export class TableApplier {
  readonly #options: TableApplierOptions;
  readonly #digest = new Int32Array(2);
  readonly #keyDigest = new Int32Array(2);
  /** Used again for each row: nothing is allocated for one. */
  readonly #shown: Mutable<ShownRow>;
  readonly #changes: TransactionChanges;
  readonly #unlocated: UnlocatedChanges;
  /** Number of the open transaction among those that took rows away; 0: it took none so far. */
  #removal = 0;
  readonly #recordings = new Set<ChangeRecording>();
  #locator: Locator | null;
  #mapping: TupleMapping | null = null;
  #relationOldRows = NOTHING_KNOWN;
  #oldRows = NOTHING_KNOWN;
  /** By OID, what the Relation messages of partitions say: old rows are made with their identities. */
  readonly #partitions = new Map<number, OldRows>();

  constructor(options: TableApplierOptions) {
    this.#options = options;
    this.#locator = options.locator;
    this.#changes = new TransactionChanges(options.leaves.size);
    this.#unlocated = new UnlocatedChanges({
      locate: options.locateKeys,
      layout: options.layout,
      record: (changes, position, { change, digest, keyDigest }) => {
        this.#digest.set(digest);
        this.#keyDigest.set(keyDigest);
        this.#record(changes, position, change);
      },
    });
    this.#shown = {
      node: options.openRows?.node ?? 0,
      block: 0,
      keyDigest: this.#keyDigest,
      digest: null,
      isUnknown: false,
      removal: 0,
    };
  }

  /** A Relation message describes the tuples that follow it. */
  relation(relation: Relation): void {
    const mapping = mapTuples(relation, this.#options.spec, this.#options.seed);
    const before = this.#mapping;
    this.#mapping = mapping;
    this.#relationOldRows = oldRowsOf(relation, this.#options.spec);
    this.#judgeOldRows();
    const { schema, name } = this.#options.spec;
    if (relation.schema !== schema || relation.name !== name) {
      const called = `${relation.schema}.${relation.name}`;
      this.#options.onSchemaChange(`the table was called ${called} when rows were written`);
    }
    if (mapping.hasher === null || mapping.keyColumns === null) {
      this.#options.onSchemaChange('a compared column is missing from the stream');
    } else if (before !== null && before.signature !== mapping.signature) {
      this.#options.onSchemaChange('the columns of the table have changed');
    }
  }

  /**
   * A Relation message of a partition, which the server sends after the table's own and before the
   * partition's first row. Under the table's name come rows whose old images follow the identity of
   * the partition, so they are trusted no further than the weakest identity seen.
   */
  partition(relation: Relation): void {
    this.#partitions.set(relation.oid, oldRowsOf(relation, this.#options.spec));
    this.#judgeOldRows();
  }

  /** Whether the leaves were read with this partition in the table. */
  knowsPartition(oid: number): boolean {
    return this.#options.partitions?.includes(oid) === true;
  }

  get isPartitioned(): boolean {
    return this.#options.partitions !== null;
  }

  /** Rows that came and will go with it are not told apart from others. */
  unknownPartition(): void {
    this.#options.onSchemaChange('rows were written to a partition that is new');
    this.#markAll();
  }

  insert(tuple: Tuple): void {
    this.#row(tuple, ROW_INSERTED, true);
  }

  update(oldKind: OldTupleKind, oldTuple: Tuple, newTuple: Tuple): void {
    if (oldKind === 'full' && this.#oldRows.isFull) {
      fillUnchanged(newTuple, oldTuple);
      this.#row(oldTuple, ROW_DELETED, true);
      this.#row(newTuple, ROW_INSERTED, true);
    } else if (!this.#oldRows.hasKey) {
      // The identity is another index: the primary key may have changed without a word of it.
      this.#markAll();
    } else if (oldKind !== 'none') {
      this.#row(oldTuple, ROW_DELETED, false);
      this.#row(newTuple, ROW_INSERTED, true);
    } else {
      this.#row(newTuple, ROW_UPDATED, false);
    }
  }

  delete(oldKind: OldTupleKind, oldTuple: Tuple): void {
    if (oldKind === 'full' && this.#oldRows.isFull) this.#row(oldTuple, ROW_DELETED, true);
    else if (oldKind !== 'none' && this.#oldRows.hasKey) {
      this.#row(oldTuple, ROW_DELETED, false);
    } else this.#markAll();
  }

  /** Whether keeping the rows of a block would make changes exact that are not. */
  get wantsRowDigests(): boolean {
    return !this.#oldRows.isFull && this.#oldRows.hasKey;
  }

  truncate(): void {
    this.#openWholeTable();
    const { openRows, transaction } = this.#options;
    openRows?.rows.removals.truncate({ ...transaction(), node: openRows.node });
    if (this.#locator === null) this.#unlocated.reset();
    else this.#changes.reset();
  }

  /** The open transaction has changes whose blocks only the server can tell. */
  get mustHold(): boolean {
    return this.#unlocated.isOpen;
  }

  /** Ends the open transaction and applies it. */
  commit(xid: number, nowMs: number): void {
    this.#removal = 0;
    if (!this.#changes.isEmpty) this.#apply(this.#changes.take(xid), nowMs);
  }

  /** Ends the open transaction and keeps it for applyHeld. Returns how many keys it has to locate. */
  hold(xid: number): number {
    this.#removal = 0;
    return this.#unlocated.hold(xid, this.#changes.isEmpty ? [] : this.#changes.take(xid));
  }

  /** Applies the oldest held transaction, whose keys must have been located. */
  applyHeld(nowMs: number): void {
    this.#apply(this.#unlocated.take(), nowMs);
  }

  /** Asks the server for the blocks of all keys held now. Errors: those of a query. */
  async locateHeld(): Promise<void> {
    await this.#unlocated.locate();
  }

  /** The connection ended: whatever was not applied will come again. */
  discard(): void {
    this.#removal = 0;
    this.#changes.discard();
    this.#unlocated.discard();
    this.#partitions.clear();
    this.#judgeOldRows();
  }

  /** From now on keeps a copy of every change to these blocks, until stopRecording. */
  startRecording(positions: ReadonlySet<number>, kind: RecordingKind): ChangeRecording {
    const recording: ChangeRecording = { kind, positions, changes: [] };
    this.#recordings.add(recording);
    return recording;
  }

  stopRecording(recording: ChangeRecording): void {
    this.#recordings.delete(recording);
  }

  relayout(locator: Locator | null, { layout, map }: LayoutChange): void {
    for (const { positions } of this.#recordings) {
      for (const position of positions) {
        const [first, last] = map(position);
        if (first === position && last === position) continue;
        throw new RangeError('a block was cut, joined or moved while it was read');
      }
    }
    this.#locator = locator;
    this.#changes.relayout(layout.size, map);
    this.#unlocated.relayout(map);
  }

  #judgeOldRows(): void {
    if (!this.isPartitioned) {
      this.#oldRows = this.#relationOldRows;
      return;
    }
    const partitions = [...this.#partitions.values()];
    this.#oldRows = {
      // The tag of an old row is the table's own identity, its content the partition's.
      isFull:
        this.#relationOldRows.isFull &&
        partitions.length > 0 &&
        partitions.every(({ isFull }) => isFull),
      hasKey: partitions.length > 0 && partitions.every(({ hasKey }) => hasKey),
    };
  }

  #apply(changes: readonly LeafChange[], nowMs: number): void {
    const { leaves, filters } = this.#options;
    for (const change of changes) {
      let observers: ChangeRecording[] | null = null;
      for (const recording of this.#recordings) {
        if (!recording.positions.has(change.position)) continue;
        if (recording.kind === 'changes') recording.changes.push(change);
        else (observers ??= []).push(recording);
      }
      const filter = leaves.filters[change.position] ?? 0;
      if (filter !== 0 && filters.shows(filter, change.xid)) continue;
      if (observers === null) applyLeafChange(this.#options, change, nowMs);
      else this.#applyObserved(change, observers, nowMs);
    }
  }

  #applyObserved(change: LeafChange, observers: readonly ChangeRecording[], nowMs: number): void {
    const { leaves } = this.#options;
    const before = leaves.value(change.position);
    applyLeafChange(this.#options, change, nowMs);
    const after = leaves.value(change.position);
    const gained = after.sum - before.sum;
    const effect: LeafChange = {
      ...change,
      rows: after.rows - before.rows,
      sumLow: lowHalf(gained),
      sumHigh: highHalf(gained),
      operations: null,
    };
    for (const { changes } of observers) changes.push(effect);
  }

  #row(tuple: Tuple, kind: RowOperationKind, isExact: boolean): void {
    const mapping = this.#mapping;
    if (mapping?.keyColumns == null || !isLocatable(tuple, mapping.keyColumns)) {
      this.#markAll();
      return;
    }
    // A deleted row's values are in the stream only where the change is exact anyway.
    const removal = kind === ROW_DELETED ? this.#removing() : 0;
    const isKnown =
      kind === ROW_DELETED && !isExact ? false : mapping.hasher?.hash(tuple, this.#digest) === true;
    if (this.#locator === null) {
      mapping.keyHasher?.hash(tuple, this.#keyDigest);
      this.#unlocated.add({
        key: this.#keyText(tuple, mapping.keyColumns),
        change: { kind, isKnown, isExact, removal },
        digest: this.#digest.slice(),
        keyDigest: this.#keyDigest.slice(),
      });
      return;
    }
    const position = this.#locator.locateTuple(tuple, mapping.keyColumns);
    if (this.#options.openRows !== null || this.#options.rowDigests.has(position)) {
      mapping.keyHasher?.hash(tuple, this.#keyDigest);
    }
    this.#record(this.#changes, position, { kind, isKnown, isExact, removal });
  }

  /** Adds a change of the row whose digests are in #digest and #keyDigest. */
  #record(changes: TransactionChanges, position: number, change: RowChange): void {
    const { kind, isKnown, isExact } = change;
    this.#show(position, change);
    const low = this.#digest[0] ?? 0;
    const high = this.#digest[1] ?? 0;
    if (this.#options.rowDigests.has(position) && (isKnown || kind === ROW_DELETED)) {
      changes.operate(position, kind, this.#keyDigest, this.#digest);
    } else if (!isKnown || !isExact) changes.markUnknown(position);
    else if (kind === ROW_INSERTED) changes.add(position, 1, low, high);
    else changes.subtract(position, 1, low, high);
  }

  /** Rows of a transaction are shown before it commits; one that is sent again shows them again. */
  #show(position: number, { kind, isKnown, removal }: RowChange): void {
    const open = this.#options.openRows;
    if (open === null) return;
    const shown = this.#shown;
    shown.block = position;
    shown.digest = kind === ROW_DELETED ? null : this.#digest;
    shown.isUnknown = kind !== ROW_DELETED && !isKnown;
    shown.removal = removal;
    open.rows.show(shown, open.now());
  }

  #removing(): number {
    const { openRows, transaction } = this.#options;
    if (openRows === null) return 0;
    if (this.#removal === 0) {
      this.#removal = openRows.rows.removals.add({ ...transaction(), node: openRows.node });
    }
    return this.#removal;
  }

  #openWholeTable(): void {
    const open = this.#options.openRows;
    open?.rows.openWholeTable(open.now());
  }

  #markAll(): void {
    this.#openWholeTable();
    if (this.#locator === null) this.#unlocated.markAllUnknown();
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
