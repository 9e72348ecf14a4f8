import assert from 'node:assert/strict';
import { silentLogger } from '../../src/base/log.js';
import { NO_LSN, type Lsn } from '../../src/base/lsn.js';
import type { ChangeApplier } from '../../src/ingest/change-applier.js';
import { NodeChanges } from '../../src/ingest/node-changes.js';
import { NodeFlush } from '../../src/ingest/node-flush.js';
import type { NodeServer } from '../../src/ingest/node-server.js';
import { rehash } from '../../src/ingest/rehash.js';
import { TrackedTable } from '../../src/ingest/tracked-table.js';
import { BlockLayout } from '../../src/merkle/layout.js';
import type { LeafValue } from '../../src/merkle/leaves.js';
import { RowDigestCache } from '../../src/merkle/row-digests.js';
import type { KeyText } from '../../src/table/table-spec.js';
import { Store, type StoredTable } from '../../src/store/store.js';
import { encode, type PlainMessage } from '../pgoutput/encoder.js';
import {
  keyText,
  relationOf,
  replay,
  keyDigest,
  rowDigest,
  type Row,
  type SimulatedServer,
  type SimulatedTable,
  type State,
} from './simulated-server.js';

const NODE = 'n1';
const readingsOf = ({ oid }: SimulatedTable): StoredTable['readings'] => ({
  [NODE]: { oid, leaves: null, fingerprint: '' },
});
/** Flushes come when the test says so. */
const LONG_MS = 3_600_000;
const MASK = (1n << 64n) - 1n;

/** Blocks that are being read: the statement is sent, then run, then its answer arrives. */
interface Reading {
  readonly table: Tracked;
  readonly positions: readonly number[];
  readonly keepsRows: boolean;
  readonly abort: AbortController;
  answer: (string | null)[][] | null;
  readXids: ReadonlySet<bigint>;
  reply: ((rows: (string | null)[][]) => void) | null;
  done: Promise<void>;
}

interface Tracked {
  readonly simulated: SimulatedTable;
  readonly tracked: TrackedTable;
  /** Block id -> what the snapshot that its leaf was read in shows. */
  readonly shown: Map<number, ReadonlySet<bigint>>;
}

/** What lives until the next crash. */
interface Process {
  readonly store: Store;
  readonly tables: readonly Tracked[];
  readonly changes: NodeChanges;
  readonly flush: NodeFlush;
}

/** How often something happened that a test wants to have covered. */
export interface Coverage {
  clean: number;
  kept: number;
  dirty: number;
  retried: number;
  shownBeforeStreamed: number;
  heldAtDisconnect: number;
  hiddenAtCrash: number;
}

/** One node's stream, leaves and store: the parts of a pipeline, but for its connections, under a test's control. */
export class SimulatedDaemon {
  readonly coverage: Coverage;
  readonly #server: SimulatedServer;
  readonly #stateDir: string;
  #process: Process;
  #readings: Reading[] = [];
  #questions: (() => void)[] = [];
  #failure: Error | null = null;
  #sentRelations = new Set<number>();
  /** What comes next in the stream: transaction and message. */
  #next = 0;
  #part = 0;
  #durableShown = new Map<string, ReadonlySet<bigint>>();

  constructor(server: SimulatedServer, stateDir: string, coverage: Coverage) {
    this.#server = server;
    this.#stateDir = stateDir;
    this.coverage = coverage;
    const store = Store.open(stateDir, 'test');
    store.saveNode(NODE, {
      systemId: '1',
      timeline: 1,
      serverStart: null,
      position: server.insertLsn,
      last: { endLsn: server.insertLsn, commit: null },
    });
    for (const table of server.tables) {
      const { id } = store.addTable(table.spec, readingsOf(table), 1000);
      const lowers = [-6, -1, 4, 9]
        .map(String)
        .sort(table.compare)
        .map((key) => [key]);
      store.saveLayout(id, BlockLayout.single().split(0, lowers));
    }
    this.#process = this.#start(store);
  }

  close(): void {
    for (const reading of this.#readings) reading.abort.abort();
    this.#process.flush.stop();
    this.#process.store.close();
  }

  /** Receives `count` messages of the stream. */
  stream(count: number): void {
    for (let i = 0; i < count; i++) {
      const transaction = this.#server.log[this.#next];
      if (transaction === undefined) return;
      const { messages, commitLsn, endLsn, xid } = transaction;
      const commitTimeUs = 0n;
      if (this.#part === 0) {
        const begin = { kind: 'begin', finalLsn: commitLsn, commitTimeUs } as const;
        this.#receive({ ...begin, xid: Number(xid & 0xffffffffn) });
      }
      const message = messages[this.#part];
      if (message === undefined) {
        this.#receive({ kind: 'commit', commitLsn, endLsn, commitTimeUs });
        this.#next++;
        this.#part = 0;
      } else {
        this.#sendRelation(message);
        this.#receive(message);
        this.#part++;
      }
    }
  }

  keepalive(): void {
    if (this.#next < this.#server.log.length) return;
    this.#changes.keepalive(this.#server.insertLsn);
  }

  flush(): void {
    this.#process.flush.flush();
  }

  disconnect(): void {
    if (this.#changes.isWaiting) this.coverage.heldAtDisconnect++;
    this.#changes.disconnected();
    this.flush();
    this.#connect();
  }

  /** Forgets what is not in the store. */
  crash(): void {
    this.coverage.hiddenAtCrash += this.#server.hidden.length;
    this.close();
    this.#readings = [];
    this.#questions = [];
    this.#process = this.#start(Store.open(this.#stateDir, 'test'));
  }

  split(index: number, key: number): void {
    const { simulated, tracked } = this.#table(index);
    if (this.#readings.some(({ table }) => table.tracked === tracked)) return;
    const position = this.#position(simulated, tracked.layout, key);
    if (tracked.layout.lowers[position]?.[0] === String(key)) return;
    tracked.changeLayout(tracked.layout.split(position, [keyText(key)]));
  }

  merge(index: number, first: number, length: number): void {
    const { tracked } = this.#table(index);
    if (this.#readings.some(({ table }) => table.tracked === tracked)) return;
    const from = first % tracked.layout.size;
    const to = Math.min(tracked.layout.size - 1, from + length);
    if (to > from) tracked.changeLayout(tracked.layout.merge([[from, to]]));
  }

  /** Starts to read blocks: those that are dirty, or each whose bit is set. */
  startReading(index: number, mask: number, keepsRows: boolean): void {
    const table = this.#table(index);
    if (this.#readings.some((reading) => reading.table === table)) return;
    const positions = table.tracked.layout.ids.flatMap((_, at) =>
      mask === 0
        ? table.tracked.leaves(NODE).isDirty(at)
          ? [at]
          : []
        : (mask >> (at % 8)) % 2 === 1
          ? [at]
          : [],
    );
    if (positions.length === 0) return;
    const reading: Reading = {
      ...{ table, positions, keepsRows, abort: new AbortController() },
      ...{ answer: null, readXids: new Set(), reply: null, done: Promise.resolve() },
    };
    this.#readings.push(reading);
    reading.done = this.#read(reading).catch((error: unknown) => {
      if (!reading.abort.signal.aborted) this.#fail(error);
    });
  }

  /** The server runs the statement of a reading. */
  runReading(pick: number): void {
    const reading = this.#pick(this.#readings, pick);
    if (reading?.reply == null || reading.answer !== null) return;
    const { simulated, tracked } = reading.table;
    this.#server.waitForTruncate(simulated);
    reading.readXids = this.#server.visibleXids;
    const rows = this.#server.visibleRows(simulated);
    const values = reading.keepsRows
      ? this.#packed(simulated, tracked.layout, rows)
      : this.#values(simulated, tracked.layout, rows).map(({ rows: count, sum }) => ({
          rows: count,
          content: String(BigInt.asIntN(64, sum)),
        }));
    const facts = [this.#server.snapshotText(), lsnText(this.#server.insertLsn)];
    reading.answer = reading.positions.map((at) => {
      const value = values[at] ?? assert.fail();
      return [String(at), String(value.rows), value.content, ...facts];
    });
  }

  answerReading(pick: number): void {
    const reading = this.#pick(this.#readings, pick);
    if (reading?.reply == null || reading.answer === null) return;
    const { reply, answer } = reading;
    reading.reply = null;
    reading.answer = null;
    reply(answer);
  }

  /** The server's answer to a question for positions arrives. */
  answerQuestion(pick: number): void {
    const at = pick % Math.max(1, this.#questions.length);
    this.#questions.splice(at, 1)[0]?.();
  }

  /** Each clean leaf has just what is applied or was in the snapshot that it was read in. */
  check(): void {
    if (this.#failure !== null) throw this.#failure;
    const { position } = this.#changes;
    for (const { simulated, tracked, shown } of this.#process.tables) {
      const leaves = tracked.leaves(NODE);
      const states = new Map<ReadonlySet<bigint> | undefined, LeafValue[]>();
      tracked.layout.ids.forEach((block, at) => {
        if (leaves.isDirty(at)) {
          this.coverage.dirty++;
          return;
        }
        this.coverage.clean++;
        const xids = shown.get(block);
        let values = states.get(xids);
        if (values === undefined) {
          const state: State = replay(
            this.#server.log.filter(
              ({ xid, endLsn }) => endLsn <= position || xids?.has(xid) === true,
            ),
          );
          values = this.#values(simulated, tracked.layout, state.get(simulated));
          states.set(xids, values);
        }
        const where = `block ${at} of ${tracked.label}`;
        assert.deepEqual(leaves.value(at), values[at], where);
        const rows = tracked.rowDigests(NODE).get(at);
        if (rows === undefined) return;
        this.coverage.kept++;
        assert.deepEqual({ rows: rows.count, sum: rows.sum() }, values[at], `rows of ${where}`);
      });
    }
  }

  /** Lets everything arrive, reads what is dirty, and compares with the server's rows. */
  async finish(settle: () => Promise<void>): Promise<void> {
    this.#server.showAll();
    for (let round = 0; round < 3; round++) {
      this.stream(Infinity);
      await this.readAll(settle);
      this.keepalive();
      this.check();
    }
    assert.equal(this.#changes.isWaiting, false);
    assert.equal(this.#changes.position, this.#server.insertLsn);
    for (const { simulated, tracked } of this.#process.tables) {
      const leaves = tracked.leaves(NODE);
      assert.equal(leaves.dirtyCount, 0, tracked.label);
      const rows = this.#server.visibleRows(simulated);
      this.#values(simulated, tracked.layout, rows).forEach((value, at) => {
        assert.deepEqual(leaves.value(at), value, `at last, block ${at} of ${tracked.label}`);
      });
    }
  }

  /** Answers all that is asked, and reads the blocks that are dirty now. */
  async readAll(settle: () => Promise<void>): Promise<void> {
    this.#process.tables.forEach((_, index) => this.startReading(index, 0, index % 2 === 0));
    await settle();
    while (this.#questions.length > 0 || this.#readings.length > 0) {
      this.answerQuestion(0);
      this.runReading(0);
      this.answerReading(0);
      await settle();
    }
  }

  get #changes(): ChangeApplier {
    return this.#process.changes.applier;
  }

  #start(store: Store): Process {
    // Small enough that blocks are given up now and then.
    const context = {
      nodes: [NODE],
      rowDigestCache: new RowDigestCache(4_000),
      openRowsBudget: null,
    };
    const tables = store.tables().map((one): Tracked => {
      const tracked = new TrackedTable(store, one, context);
      const simulated = this.#server.tables.find(({ spec }) => spec.name === tracked.spec.name);
      assert.ok(simulated !== undefined);
      const shown = new Map<number, ReadonlySet<bigint>>();
      for (const block of tracked.layout.ids) {
        const xids = this.#durableShown.get(`${tracked.id}/${block}`);
        if (xids !== undefined) shown.set(block, xids);
      }
      return { simulated, tracked, shown };
    });
    const fail = (error: unknown): void => this.#fail(error);
    const changes = new NodeChanges({
      node: NODE,
      server: this.#questionsTo(tables),
      store,
      tables: tables.map(({ tracked }) => tracked),
      log: silentLogger(),
      signal: new AbortController().signal,
      flow: { pause: () => undefined, resume: () => undefined, fail },
      onPosition: (position) => flush.passed(position),
      onSchemaChange: (_, reason) => fail(reason),
    });
    const flush = new NodeFlush({
      changes,
      store,
      intervalMs: LONG_MS,
      isAwaited: () => false,
      onDurable: () => {
        this.#durableShown = new Map(
          tables.flatMap(({ tracked, shown }) =>
            Array.from(shown, ([block, xids]) => [`${tracked.id}/${block}`, xids] as const),
          ),
        );
      },
      onFailure: fail,
    });
    this.#connect(store.node(NODE)?.position);
    return { store, tables, changes, flush };
  }

  /** What is asked is answered when the test says so. */
  #questionsTo(tables: readonly Tracked[]): NodeServer {
    return {
      locate: (table, keys) =>
        this.#ask(tables.find(({ tracked }) => tracked === table) ?? assert.fail(), keys),
      hiddenXids: () => {
        const before = new Set(this.#server.hidden);
        return this.#answer(() =>
          this.#server.hidden.filter((one) => before.has(one)).map(({ xid }) => xid),
        );
      },
      read: () => assert.fail('blocks are read as the test says'),
      snapshot: () => assert.fail('there are too few transactions'),
      fence: () => assert.fail('nobody takes a fence'),
    };
  }

  #connect(start = this.#process.store.node(NODE)?.position ?? NO_LSN): void {
    const next = this.#server.log.findIndex(({ commitLsn }) => commitLsn >= start);
    this.#next = next < 0 ? this.#server.log.length : next;
    this.#part = 0;
    this.#sentRelations = new Set();
  }

  #receive(message: PlainMessage): void {
    // Other bytes around it: offsets must be kept to.
    const bytes = encode(message);
    const buffer = Buffer.concat([Buffer.from('before'), bytes, Buffer.from('after')]);
    this.#changes.data(buffer, 6, 6 + bytes.length);
  }

  #sendRelation(message: PlainMessage): void {
    const oid =
      message.kind === 'truncate'
        ? message.relationOids[0]
        : 'relationOid' in message
          ? message.relationOid
          : undefined;
    const table = this.#server.tables.find((one) => one.oid === oid);
    if (table === undefined || this.#sentRelations.has(table.oid)) return;
    this.#sentRelations.add(table.oid);
    this.#receive({ kind: 'relation', relation: relationOf(table) });
  }

  async #read(reading: Reading): Promise<void> {
    const { tracked, shown } = reading.table;
    let statements = 0;
    const read = (): Promise<(string | null)[][]> => {
      if (statements++ > 0) this.coverage.retried++;
      return new Promise((resolve) => {
        reading.reply = resolve;
      });
    };
    const { changes, flush } = this.#process;
    const { epoch, filters, hiddenCommits } = changes;
    const values = await rehash({
      table: tracked,
      pipeline: { name: NODE, epoch, filters, hiddenCommits, touch: () => flush.touch() },
      server: { read },
      positions: reading.positions,
      keepsRows: reading.keepsRows,
      concurrency: 1,
      signal: reading.abort.signal,
      onProgress: () => undefined,
    });
    if (reading.abort.signal.aborted) return;
    for (const at of values.keys()) shown.set(tracked.layout.ids[at] ?? -1, reading.readXids);
    const { position } = changes;
    const isAhead = this.#server.log.some(
      ({ xid, endLsn }) => endLsn > position && reading.readXids.has(xid),
    );
    if (isAhead) this.coverage.shownBeforeStreamed++;
    this.#readings.splice(this.#readings.indexOf(reading), 1);
  }

  #ask({ simulated, tracked }: Tracked, keys: readonly KeyText[]): Promise<number[]> {
    const positions = keys.map(([key]) =>
      this.#position(simulated, tracked.layout, Number(key ?? '')),
    );
    return this.#answer(() => positions);
  }

  #answer<T>(answer: () => T): Promise<T> {
    return new Promise((resolve) => {
      this.#questions.push(() => resolve(answer()));
    });
  }

  #position(table: SimulatedTable, layout: BlockLayout, key: number): number {
    return layout.lowers.filter(
      (lower) => lower !== null && table.compare(lower[0] ?? '', String(key)) <= 0,
    ).length;
  }

  #values(
    table: SimulatedTable,
    layout: BlockLayout,
    rows: ReadonlyMap<number, Row> | undefined,
  ): LeafValue[] {
    const values = layout.ids.map(() => ({ rows: 0, sum: 0n }));
    for (const row of rows?.values() ?? []) {
      const value = values[this.#position(table, layout, row.id)] ?? assert.fail();
      value.rows++;
      value.sum = (value.sum + rowDigest(this.#process.store.seed, row)) & MASK;
    }
    return values;
  }

  /** Rows as the server packs them. */
  #packed(
    table: SimulatedTable,
    layout: BlockLayout,
    rows: ReadonlyMap<number, Row>,
  ): { rows: number; content: string | null }[] {
    const blocks = layout.ids.map((): Buffer[] => []);
    for (const row of rows.values()) {
      const packed = Buffer.alloc(16);
      packed.writeBigUInt64BE(keyDigest(this.#process.store.seed, row), 0);
      packed.writeBigUInt64BE(rowDigest(this.#process.store.seed, row), 8);
      blocks[this.#position(table, layout, row.id)]?.push(packed);
    }
    return blocks.map((block) => ({
      rows: block.length,
      content: block.length === 0 ? null : `\\x${Buffer.concat(block).toString('hex')}`,
    }));
  }

  #fail(error: unknown): void {
    this.#failure = error instanceof Error ? error : new Error(String(error));
  }

  #table(index: number): Tracked {
    return this.#pick(this.#process.tables, index) ?? assert.fail();
  }

  #pick<T>(list: readonly T[], pick: number): T | undefined {
    return list[pick % Math.max(1, list.length)];
  }
}

function lsnText(lsn: Lsn): string {
  return `${(lsn >> 32n).toString(16)}/${(lsn & 0xffffffffn).toString(16)}`;
}
