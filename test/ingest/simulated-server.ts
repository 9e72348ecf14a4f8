import type { Lsn } from '../../src/base/lsn.js';
import { hashTexts } from '../../src/digest/row-hasher.js';
import type { DigestSeed } from '../../src/digest/digest-column.js';
import type { Relation, ReplicaIdentity } from '../../src/pgoutput/message.js';
import type { KeyText, TableSpec } from '../../src/table/table-spec.js';
import type { Column, PlainMessage } from '../pgoutput/encoder.js';
import { BUILT_IN_KEY } from '../support/key-column.js';

export interface SimulatedTable {
  readonly oid: number;
  readonly spec: TableSpec;
  readonly identity: ReplicaIdentity;
  /** The server's order of keys; `server` tables sort downwards, which nobody outside could guess. */
  readonly compare: (a: string, b: string) => number;
}

export interface Row {
  readonly v: string | null;
  readonly id: number;
  readonly u: string;
  /** Stored out of line: an update that does not change it does not send it. */
  readonly big: string;
}

export interface Operation {
  readonly table: number;
  readonly kind: 'write' | 'rename' | 'delete' | 'truncate';
  readonly key: number;
  readonly other: number;
  readonly value: number;
}

/** A committed transaction, in the order of the write-ahead log. */
export interface Transaction {
  readonly xid: bigint;
  readonly commitLsn: Lsn;
  readonly endLsn: Lsn;
  readonly effects: readonly Effect[];
  /** Without relations, which a walsender sends when a connection first needs them. */
  readonly messages: readonly PlainMessage[];
}

/** A row's new state, null when it is gone; or a truncated table. */
export type Effect =
  | { readonly table: SimulatedTable; readonly key: number; readonly row: Row | null }
  | { readonly table: SimulatedTable; readonly isTruncate: true };

export type State = ReadonlyMap<SimulatedTable, ReadonlyMap<number, Row>>;

const COLUMNS = ['v', 'id', 'u', 'big'] as const;
const DIGEST_COLUMNS = ['big', 'id', 'u', 'v'] as const;
const EMPTY_ROW: readonly Column[] = [null, null, null, null];

export function simulatedTable(
  oid: number,
  identity: ReplicaIdentity,
  orderKind: 'integer' | 'server',
): SimulatedTable {
  const sign = orderKind === 'integer' ? 1 : -1;
  return {
    oid,
    identity,
    compare: (a, b) => sign * (Number(a) - Number(b)),
    spec: {
      schema: 'public',
      name: `${identity}_${orderKind}`,
      key: [
        {
          ...{ name: 'id', typeName: 'integer', textForm: 'plain', orderKind, collate: null },
          ...BUILT_IN_KEY,
        },
      ],
      isKeyOrdered: true,
      columns: DIGEST_COLUMNS.map((name) => ({ name, textForm: 'plain' })),
      excluded: [],
    },
  };
}

export function relationOf(table: SimulatedTable): Relation {
  const isIdentity = (name: string): boolean =>
    table.identity === 'full' || name === (table.identity === 'index' ? 'u' : 'id');
  return {
    oid: table.oid,
    schema: table.spec.schema,
    name: table.spec.name,
    replicaIdentity: table.identity,
    columns: COLUMNS.map((name) => ({
      name,
      typeOid: name === 'id' ? 23 : 25,
      typeModifier: -1,
      isIdentity: isIdentity(name),
    })),
  };
}

const digests = new WeakMap<Row, bigint>();

export function rowDigest(seed: DigestSeed, row: Row): bigint {
  let digest = digests.get(row);
  if (digest === undefined) {
    const values = DIGEST_COLUMNS.map((name) => (row[name] === null ? null : String(row[name])));
    digest = hashTexts(seed, ['plain', 'plain', 'plain', 'plain'], values);
    digests.set(row, digest);
  }
  return digest;
}

export function keyDigest(seed: DigestSeed, row: Row): bigint {
  return hashTexts(seed, ['plain'], [String(row.id)]);
}

/** The rows after these transactions, which must be in the order of the log. */
export function replay(transactions: Iterable<Transaction>): State {
  const state = new Map<SimulatedTable, Map<number, Row>>();
  for (const { effects } of transactions) applyEffects(state, effects);
  return state;
}

function applyEffects(
  state: Map<SimulatedTable, Map<number, Row>>,
  effects: readonly Effect[],
): void {
  for (const effect of effects) {
    let rows = state.get(effect.table);
    if (rows === undefined) state.set(effect.table, (rows = new Map<number, Row>()));
    if ('isTruncate' in effect) rows.clear();
    else if (effect.row === null) rows.delete(effect.key);
    else rows.set(effect.key, effect.row);
  }
}

/**
 * What matters of a server: transactions that get their ids early and commit late, commits that are
 * in the log before other sessions see them, the locks that follow from it, and a log to stream.
 */
export class SimulatedServer {
  readonly log: Transaction[] = [];
  readonly tables: readonly SimulatedTable[];
  readonly #visible = new Map<SimulatedTable, Map<number, Row>>();
  readonly #visibleXids = new Set<bigint>();
  /** Not committed yet. */
  readonly open: bigint[] = [];
  /** In the log, but not seen by other sessions. */
  readonly hidden: Transaction[] = [];
  // The ids' low 32 bits wrap after 30 of them.
  #nextXid = (7n << 32n) - 30n;
  #latestEnded = this.#nextXid - 1n;
  #insertLsn = 0x1000n;

  constructor(tables: readonly SimulatedTable[]) {
    this.tables = tables;
    for (const table of tables) this.#visible.set(table, new Map());
  }

  get insertLsn(): Lsn {
    return this.#insertLsn as Lsn;
  }

  get visibleXids(): ReadonlySet<bigint> {
    return new Set(this.#visibleXids);
  }

  visibleRows(table: SimulatedTable): ReadonlyMap<number, Row> {
    return this.#visible.get(table) ?? new Map<number, Row>();
  }

  begin(): void {
    this.open.push(this.#nextXid++);
  }

  abort(pick: number): void {
    const xid = this.#take(this.open, pick);
    if (xid !== undefined) this.#end(xid);
  }

  /** Runs the operations and writes the commit record. Without an open transaction begins one. */
  commit(pick: number, operations: readonly Operation[]): void {
    if (this.open.length === 0) this.begin();
    const xid = this.#take(this.open, pick);
    if (xid === undefined) return;
    const state = new Map(Array.from(this.#visible, ([table, rows]) => [table, new Map(rows)]));
    const effects: Effect[] = [];
    const messages: PlainMessage[] = [];
    for (const operation of operations) {
      const table = this.tables[operation.table % this.tables.length];
      if (table === undefined || this.#isLocked(table, operation)) continue;
      const done = execute(table, state.get(table) ?? new Map<number, Row>(), operation);
      applyEffects(state, done.effects);
      effects.push(...done.effects);
      messages.push(...done.messages);
    }
    const commitLsn = this.insertLsn;
    this.#insertLsn += 0x30n;
    const transaction = { xid, commitLsn, endLsn: this.insertLsn, effects, messages };
    this.log.push(transaction);
    this.hidden.push(transaction);
  }

  /** Log records that are no business of ours. */
  writeOther(): void {
    this.#insertLsn += 0x18n;
  }

  /** Ends a hidden transaction: others see it, its locks are free. */
  show(pick: number): void {
    const transaction = this.#take(this.hidden, pick);
    if (transaction === undefined) return;
    applyEffects(this.#visible, transaction.effects);
    this.#visibleXids.add(transaction.xid);
    this.#end(transaction.xid);
  }

  showAll(): void {
    while (this.hidden.length > 0) this.show(0);
  }

  /** Reading a table waits for whoever has truncated it. */
  waitForTruncate(table: SimulatedTable): void {
    const isTruncate = (effect: Effect): boolean =>
      effect.table === table && 'isTruncate' in effect;
    for (;;) {
      const at = this.hidden.findIndex(({ effects }) => effects.some(isTruncate));
      if (at < 0) return;
      this.show(at);
    }
  }

  snapshotText(): string {
    const xmax = this.#latestEnded + 1n;
    const running = [...this.open, ...this.hidden.map(({ xid }) => xid)]
      .filter((xid) => xid < xmax)
      .sort((a, b) => (a < b ? -1 : 1));
    return `${running[0] ?? xmax}:${xmax}:${running.join(',')}`;
  }

  #end(xid: bigint): void {
    if (xid > this.#latestEnded) this.#latestEnded = xid;
  }

  #isLocked(table: SimulatedTable, operation: Operation): boolean {
    return this.hidden.some(({ effects }) =>
      effects.some(
        (effect) =>
          effect.table === table &&
          (operation.kind === 'truncate' ||
            'isTruncate' in effect ||
            effect.key === operation.key ||
            effect.key === operation.other),
      ),
    );
  }

  #take<T>(list: T[], pick: number): T | undefined {
    return list.length === 0 ? undefined : list.splice(pick % list.length, 1)[0];
  }
}

interface Execution {
  readonly effects: readonly Effect[];
  readonly messages: readonly PlainMessage[];
}

const NOTHING: Execution = { effects: [], messages: [] };

function execute(
  table: SimulatedTable,
  rows: ReadonlyMap<number, Row>,
  operation: Operation,
): Execution {
  const { kind, key, other, value } = operation;
  const relationOid = table.oid;
  const old = rows.get(key);
  if (kind === 'truncate') {
    const relationOids = [relationOid];
    return {
      effects: [{ table, isTruncate: true }],
      messages: [{ kind, relationOids, cascade: false, restartIdentity: false }],
    };
  }
  if (kind === 'delete') {
    if (old === undefined) return NOTHING;
    return {
      effects: [{ table, key, row: null }],
      messages: [{ kind, relationOid, ...oldImage(table, old, null) }],
    };
  }
  if (kind === 'rename') {
    if (old === undefined || rows.has(other)) return NOTHING;
    const row = { ...old, id: other, u: value % 3 === 0 ? `u${value}` : old.u };
    return {
      effects: [
        { table, key, row: null },
        { table, key: other, row },
      ],
      messages: [updateMessage(table, old, row)],
    };
  }
  const v = value % 5 === 0 ? null : `v${value}`;
  if (old === undefined) {
    const row = { id: key, v, u: `u${value}`, big: value % 2 === 0 ? '' : `big${value}` };
    return {
      effects: [{ table, key, row }],
      messages: [{ kind: 'insert', relationOid, newRow: columnsOf(row) }],
    };
  }
  const row = { ...old, v, ...(value % 4 === 0 ? { u: `u${value}`, big: `big${value}` } : {}) };
  return { effects: [{ table, key, row }], messages: [updateMessage(table, old, row)] };
}

function updateMessage(table: SimulatedTable, old: Row, row: Row): PlainMessage {
  const isUnchanged = old.big === row.big && row.big !== '';
  return {
    kind: 'update',
    relationOid: table.oid,
    ...oldImage(table, old, row),
    newRow: columnsOf(row).map((text, i) =>
      isUnchanged && COLUMNS[i] === 'big' ? undefined : text,
    ),
  };
}

/** What the replica identity lets the log hold of the old row; `row` is null for a delete. */
function oldImage(
  table: SimulatedTable,
  old: Row,
  row: Row | null,
): { oldKind: 'none' | 'key' | 'full'; oldRow: readonly Column[] } {
  if (table.identity === 'full') return { oldKind: 'full', oldRow: columnsOf(old) };
  const name = table.identity === 'index' ? 'u' : 'id';
  if (row !== null && row[name] === old[name]) return { oldKind: 'none', oldRow: [] };
  const oldRow = EMPTY_ROW.map((_, i) => (COLUMNS[i] === name ? String(old[name]) : null));
  return { oldKind: 'key', oldRow };
}

function columnsOf(row: Row): Column[] {
  return COLUMNS.map((name) => (row[name] === null ? null : String(row[name])));
}

export function keyText(key: number): KeyText {
  return [String(key)];
}
