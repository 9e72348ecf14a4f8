import { steadyNowMs } from '../base/clock.js';
import type { ErrorCode } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import type { DigestSeed } from '../digest/digest-column.js';
import { BlockSql } from '../merkle/block-sql.js';
import { HashTree } from '../merkle/hash-tree.js';
import type { BlockLayout, LayoutChange, PositionMap } from '../merkle/layout.js';
import { createLocator, type Locator } from '../merkle/locator.js';
import { LeafSet } from '../merkle/leaves.js';
import { TableRowDigests, type RowDigestCache } from '../merkle/row-digests.js';
import type { TableSpec } from '../table/table-spec.js';
import type { StoredState } from '../protocol/states.js';
import type { Store, StoredTable } from '../store/store.js';
import { OpenRows, type OpenRowsBudget } from './open-rows.js';
import { TableApplier, type TableApplierOptions } from './table-applier.js';

export interface TrackedTableContext {
  readonly nodes: readonly string[];
  readonly rowDigestCache: RowDigestCache;
  /** Null: rows are not followed one by one; only a daemon judges tables all the time. */
  readonly openRowsBudget: OpenRowsBudget | null;
  readonly onState?: (change: StateChange) => void;
}

export interface StateChange {
  readonly from: StoredState;
  readonly to: StoredState;
  readonly reason: string | null;
}

/** What of one node's stream an applier needs, see TableApplierOptions. */
export type ApplierContext = Pick<
  TableApplierOptions,
  'filters' | 'locateKeys' | 'transaction' | 'onSchemaChange'
>;

/** One table of the cluster: its boundaries, and its leaves on every node. */
export class TrackedTable {
  readonly id: number;
  readonly spec: TableSpec;
  #readings: StoredTable['readings'];
  readonly blockRows: number;
  readonly sql: BlockSql;
  /** Null unless a daemon judges the table all the time. */
  readonly openRows: OpenRows | null;
  readonly #store: Store;
  readonly #seed: DigestSeed;
  readonly #onState: (change: StateChange) => void;
  readonly #leaves = new Map<string, LeafSet>();
  readonly #rowDigests = new Map<string, TableRowDigests>();
  readonly #appliers = new Map<string, TableApplier>();
  readonly #onLayoutChange = new Set<(map: PositionMap) => void>();
  #layout: BlockLayout;
  #locator: Locator | null;
  #state: StoredState;
  #reason: string | null;
  #problem: ErrorCode | null = null;

  constructor(store: Store, stored: StoredTable, context: TrackedTableContext) {
    const { nodes, rowDigestCache, openRowsBudget, onState } = context;
    this.#onState = onState ?? (() => undefined);
    this.id = stored.id;
    this.spec = stored.spec;
    this.#readings = stored.readings;
    this.blockRows = stored.blockRows;
    this.#state = stored.state;
    this.#reason = stored.reason;
    this.#store = store;
    this.#seed = store.seed;
    this.sql = new BlockSql({ spec: stored.spec, seed: store.seed });
    this.openRows =
      openRowsBudget === null ? null : new OpenRows(nodes.length, openRowsBudget, steadyNowMs());
    // Nobody has compared its rows yet.
    this.openRows?.openWholeTable(steadyNowMs());
    this.#layout = store.layout(stored.id);
    this.#locator = createLocator(stored.spec.key, this.#layout);
    const positions = new Map(this.#layout.ids.map((id, position) => [id, position]));
    for (const node of nodes) {
      const leaves = new LeafSet(this.#layout.size);
      for (const leaf of store.leaves(stored.id, node)) {
        const position = positions.get(leaf.blockId);
        if (position !== undefined) leaves.restore(position, leaf);
      }
      this.#leaves.set(node, leaves);
      this.#rowDigests.set(node, new TableRowDigests(rowDigestCache));
    }
  }

  get nodes(): readonly string[] {
    return [...this.#leaves.keys()];
  }

  get label(): string {
    return `${this.spec.schema}.${this.spec.name}`;
  }

  get layout(): BlockLayout {
    return this.#layout;
  }

  get state(): StoredState {
    return this.#state;
  }

  get reason(): string | null {
    return this.#reason;
  }

  /** What kind of error has made it stale in this process; null: none, or not known. */
  get problem(): ErrorCode | null {
    return this.#problem;
  }

  /** Node -> what its catalog said when the tree was begun. */
  get readings(): StoredTable['readings'] {
    return this.#readings;
  }

  /**
   * The node's catalog was not what the tree was built from for a moment, whatever it is later: what
   * was read then may be of other rows, so the tree is to be built again.
   */
  outdate(node: string): void {
    const reading = this.#readings[node];
    if (reading === undefined) return;
    this.#readings = { ...this.#readings, [node]: { ...reading, fingerprint: '' } };
    this.#store.setTableReadings(this.id, this.#readings);
  }

  /** Logged when it is another one. Durable when it returns; in memory also when that fails. */
  setState(state: StoredState, reason: string | null, problem: ErrorCode | null = null): void {
    const from = this.#state;
    this.#problem = problem;
    if (from === state && this.#reason === reason) return;
    this.#state = state;
    this.#reason = reason;
    this.#onState({ from, to: state, reason });
    this.#store.setTableState(this.id, state, reason);
  }

  /** The tree is whole and becomes the table's current one. */
  promote(): void {
    this.#store.promoteTable(this);
    const from = this.#state;
    this.#state = 'live';
    this.#reason = null;
    this.#onState({ from, to: 'live', reason: null });
  }

  leaves(node: string): LeafSet {
    const leaves = this.#leaves.get(node);
    if (leaves === undefined) throw new RangeError(`no leaves for node ${node}`);
    return leaves;
  }

  rowDigests(node: string): TableRowDigests {
    const rowDigests = this.#rowDigests.get(node);
    if (rowDigests === undefined) throw new RangeError(`no row digests for node ${node}`);
    return rowDigests;
  }

  /** The table is followed no longer: gives its memory back. */
  forgetRows(): void {
    for (const rowDigests of this.#rowDigests.values()) rowDigests.clear();
    this.openRows?.clear();
  }

  root(node: string): string {
    return HashTree.build(this.leaves(node)).root;
  }

  /** The node's stream applies its changes through this. */
  createApplier(
    node: string,
    { filters, locateKeys, transaction, onSchemaChange }: ApplierContext,
  ): TableApplier {
    const applier = new TableApplier({
      spec: this.spec,
      seed: this.#seed,
      leaves: this.leaves(node),
      rowDigests: this.rowDigests(node),
      filters,
      locator: this.#locator,
      locateKeys,
      transaction,
      layout: () => this.#layout,
      partitions: this.readings[node]?.leaves ?? null,
      openRows:
        this.openRows === null
          ? null
          : { rows: this.openRows, node: this.nodes.indexOf(node), now: steadyNowMs },
      onSchemaChange,
    });
    this.#appliers.set(node, applier);
    return applier;
  }

  applier(node: string): TableApplier {
    const applier = this.#appliers.get(node);
    if (applier === undefined) throw new RangeError(`no applier for node ${node}`);
    return applier;
  }

  /** Whoever keeps something by block must follow. */
  onLayoutChange(listener: (map: PositionMap) => void): void {
    this.#onLayoutChange.add(listener);
  }

  /** New boundaries, on all nodes at once; blocks that are not the same as before become dirty. */
  changeLayout(change: LayoutChange): void {
    this.#store.saveLayout(this.id, change);
    failpoint('layout-changed');
    this.#layout = change.layout;
    this.#locator = this.#locator?.follow(change) ?? null;
    for (const leaves of this.#leaves.values()) leaves.relayout(change);
    for (const rowDigests of this.#rowDigests.values()) rowDigests.relayout(change);
    for (const applier of this.#appliers.values()) applier.relayout(this.#locator, change);
    this.openRows?.relayout(change.map, steadyNowMs());
    for (const listener of this.#onLayoutChange) listener(change.map);
  }
}
