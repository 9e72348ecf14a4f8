import { steadyNowMs } from '../base/clock.js';
import type { Lsn } from '../base/lsn.js';
import type { PgoutputDecoder } from '../pgoutput/decoder.js';
import type { Message, Relation } from '../pgoutput/message.js';
import type { LastTransaction } from '../replication/start-decision.js';
import type { HiddenCommits } from './hidden-commits.js';
import { KeyLocation, type StreamFlow } from './key-location.js';
import type { ShownTransaction } from './removals.js';
import type { TableApplier } from './table-applier.js';

/**
 * Finds the appliers of a table that is tracked by its OID on the node: a publication goes by OID
 * too, and a table that was renamed, or changed its schema, keeps sending under the other name. One
 * for each tree: while another tree is being built there are two.
 */
export type ApplierLookup = (relationOid: number) => readonly TableApplier[];

const NO_APPLIERS: readonly TableApplier[] = [];

/** What the connection has told of one relation. */
interface KnownRelation {
  readonly relation: Relation;
  readonly appliers: readonly TableApplier[];
  /** Relations of partitions whose rows come under this one's OID. */
  readonly partitions: Map<number, Relation>;
}

export interface ChangeApplierOptions {
  readonly decoder: PgoutputDecoder;
  readonly lookup: ApplierLookup;
  readonly position: Lsn;
  /** The last transaction that is in the leaves. */
  readonly last: LastTransaction;
  readonly flow: StreamFlow;
  readonly hiddenCommits: HiddenCommits;
  readonly onPosition: (position: Lsn) => void;
}

/**
 * One node's decoded stream -> leaf changes, transaction by transaction. Knows three things of the
 * transaction it is in: its xid, that it is open, and which tables it touched.
 */
export class ChangeApplier {
  readonly #options: ChangeApplierOptions;
  readonly #relations = new Map<number, KnownRelation>();
  /** Set while nothing but descriptions has come after this Relation message. */
  #lastRelation: KnownRelation | null = null;
  readonly #location: KeyLocation;
  readonly #touched = new Set<TableApplier>();
  #xid: number | null = null;
  /** Of the transaction that the stream is in. */
  #commitTimeUs = 0n;
  #origin = '';
  #position: Lsn;
  /** Of the last transaction that is in the leaves: three fields, and no object for each commit. */
  #lastEnd: Lsn;
  #lastXid: number | null;
  #lastTimeUs: bigint;
  #changes = 0;

  constructor(options: ChangeApplierOptions) {
    this.#options = options;
    this.#location = new KeyLocation({
      flow: options.flow,
      onApplied: ({ xid, endLsn, timeUs }) => {
        options.hiddenCommits.add(xid);
        this.#applied(xid, endLsn, timeUs);
      },
    });
    this.#position = options.position;
    const { endLsn, commit } = options.last;
    this.#lastEnd = endLsn;
    this.#lastXid = commit?.xid ?? null;
    this.#lastTimeUs = commit?.timeUs ?? 0n;
  }

  /** Everything that committed before is in the leaves. Always between two transactions. */
  get position(): Lsn {
    return this.#position;
  }

  get last(): LastTransaction {
    const xid = this.#lastXid;
    return {
      endLsn: this.#lastEnd,
      commit: xid === null ? null : { xid, timeUs: this.#lastTimeUs },
    };
  }

  /** The one that the stream is in. */
  get transaction(): ShownTransaction {
    return { xid: this.#xid ?? 0, commitTimeUs: this.#commitTimeUs, origin: this.#origin };
  }

  /** Row changes seen so far. */
  get changes(): number {
    return this.#changes;
  }

  /** Commits wait for the server to locate keys. */
  get isWaiting(): boolean {
    return this.#location.isWaiting;
  }

  data(buffer: Buffer, start: number, end: number): void {
    this.#message(this.#options.decoder.decode(buffer, start, end));
  }

  /**
   * Decodes a message of a transaction that is in the leaves already. Of it only the definitions of
   * tables are kept: a connection gets them once.
   */
  skim(buffer: Buffer, start: number, end: number): Message {
    const message = this.#options.decoder.decode(buffer, start, end);
    if (message.kind === 'relation') this.#relation(message.relation);
    return message;
  }

  /** What lies between `position` and where we are held no change, and is sent once more. */
  rewind(position: Lsn): void {
    this.#position = position;
  }

  /** The server has sent all it had up to `walEnd`; counts between transactions only. */
  keepalive(walEnd: Lsn): void {
    if (this.#xid === null && !this.isWaiting) this.#advance(walEnd);
  }

  /** Tables were tracked or dropped: appliers are looked up again. */
  refreshTables(): void {
    for (const [oid, entry] of this.#relations) {
      const appliers = this.#options.lookup(oid);
      for (const applier of appliers) {
        if (entry.appliers.includes(applier)) continue;
        applier.relation(entry.relation);
        for (const partition of entry.partitions.values()) applier.partition(partition);
      }
      this.#relations.set(oid, { ...entry, appliers });
    }
  }

  /** The connection ended; what was not committed in it will be sent again. */
  disconnected(): void {
    for (const { appliers } of this.#relations.values()) {
      for (const applier of appliers) applier.discard();
    }
    this.#relations.clear();
    this.#touched.clear();
    this.#location.discard();
    this.#xid = null;
  }

  #message(message: Message): void {
    if (message.kind !== 'relation' && message.kind !== 'type') this.#lastRelation = null;
    switch (message.kind) {
      case 'begin':
        this.#xid = message.xid;
        this.#commitTimeUs = message.commitTimeUs;
        this.#origin = '';
        return;
      case 'insert':
        for (const applier of this.#touch(message.relationOid)) applier.insert(message.newTuple);
        return;
      case 'update':
        for (const applier of this.#touch(message.relationOid)) {
          applier.update(message.oldKind, message.oldTuple, message.newTuple);
        }
        return;
      case 'delete':
        for (const applier of this.#touch(message.relationOid)) {
          applier.delete(message.oldKind, message.oldTuple);
        }
        return;
      case 'truncate':
        for (const oid of message.relationOids) {
          for (const applier of this.#touch(oid)) applier.truncate();
        }
        return;
      case 'commit':
        this.#commit(message.endLsn, message.commitTimeUs);
        return;
      case 'relation':
        this.#relation(message.relation);
        return;
      case 'origin':
        this.#origin = message.name;
        return;
      case 'abort':
      case 'type':
      case 'message':
        return;
    }
  }

  #touch(relationOid: number): readonly TableApplier[] {
    this.#changes++;
    const appliers = this.#relations.get(relationOid)?.appliers ?? NO_APPLIERS;
    for (const applier of appliers) this.#touched.add(applier);
    return appliers;
  }

  #relation(relation: Relation): void {
    const { oid } = relation;
    const appliers = this.#options.lookup(oid);
    const partitions = this.#relations.get(oid)?.partitions ?? new Map<number, Relation>();
    const known = { relation, appliers, partitions };
    this.#relations.set(oid, known);
    for (const applier of appliers) applier.relation(relation);
    if (this.#lastRelation !== null) this.#partition(this.#lastRelation, known);
    // With publish_via_partition_root the table is described first, then the partition itself.
    this.#lastRelation = appliers.some(({ isPartitioned }) => isPartitioned) ? known : null;
  }

  /** A Relation message that directly follows the one of a partitioned table. */
  #partition(table: KnownRelation, { relation, appliers }: KnownRelation): void {
    for (const parent of table.appliers) {
      const isKnown = parent.knowsPartition(relation.oid);
      // TRUNCATE of several tables describes them all, one after another.
      if (appliers.length > 0 && !isKnown) continue;
      table.partitions.set(relation.oid, relation);
      parent.partition(relation);
      if (isKnown) continue;
      parent.unknownPartition();
      this.#touched.add(parent);
    }
  }

  #commit(endLsn: Lsn, timeUs: bigint): void {
    const xid = this.#xid ?? 0;
    this.#xid = null;
    let mustHold = this.isWaiting;
    for (const applier of this.#touched) mustHold ||= applier.mustHold;
    if (mustHold) {
      this.#location.hold({ xid, endLsn, timeUs }, [...this.#touched]);
      this.#touched.clear();
      return;
    }
    if (this.#touched.size > 0) {
      const nowMs = steadyNowMs();
      for (const applier of this.#touched) applier.commit(xid, nowMs);
      this.#touched.clear();
      this.#options.hiddenCommits.add(xid);
    }
    this.#applied(xid, endLsn, timeUs);
  }

  #applied(xid: number, endLsn: Lsn, timeUs: bigint): void {
    this.#lastEnd = endLsn;
    this.#lastXid = xid;
    this.#lastTimeUs = timeUs;
    this.#advance(endLsn);
  }

  #advance(position: Lsn): void {
    if (position <= this.#position) return;
    this.#position = position;
    this.#options.onPosition(position);
  }
}
