import type {
  Agreement,
  BirthCertificate,
  DriftCause,
  DriftKind,
  Incident,
  IncidentState,
} from '../protocol/drift.js';
import type { KeyText } from '../table/table-spec.js';
import type { FetchedRow } from '../diff/settle.js';
import {
  afterAnotherLook,
  rowsOf,
  totalOf,
  type DriftedBlock,
  type RowOnNodes,
} from './drifted-block.js';
import type { RowRemoval } from './row-removals.js';

/**
 * What the last writes of a row that differs tell of why it does. Pure.
 *
 * @param removals who took it away, by index of the node; null: nobody, or not known
 * @param isForeign whether an origin on the node with this index is no subscription's there
 */
export function causeOf(
  rows: RowOnNodes,
  removals: readonly (RowRemoval | null)[],
  isForeign: (origin: string, index: number) => boolean,
): DriftCause {
  const present = rows.filter((row) => row !== null);
  const removal = removalCause(present, removals, isForeign);
  if (removal !== null) return removal;
  if (present.some(({ origin }) => origin === null)) return 'unknown';
  if (rows.some((row, i) => row?.origin != null && row.origin !== '' && isForeign(row.origin, i))) {
    return 'foreign_origin';
  }
  const [writer, other] = present.filter(({ origin }) => origin === '');
  if (writer === undefined) return 'unknown';
  if (other !== undefined) return 'conflict';
  // Applied there under the writer's commit time, and yet another row.
  const isAltered = present.some(
    ({ digest, commitTs, origin }) =>
      digest !== writer.digest &&
      origin !== '' &&
      commitTs !== null &&
      commitTs === writer.commitTs,
  );
  if (isAltered) return 'altered';
  const shared = present.filter(({ digest }) => digest === writer.digest).length;
  return shared > 1 ? 'lacking' : 'local_write';
}

/** Null: no removal that is known is why. */
function removalCause(
  present: readonly FetchedRow[],
  removals: readonly (RowRemoval | null)[],
  isForeign: (origin: string, index: number) => boolean,
): DriftCause | null {
  const writtenMs = Math.max(
    0,
    ...present.map(({ commitTs }) => (commitTs === null ? 0 : Date.parse(commitTs))),
  );
  const isLast = ({ commitTimeUs }: RowRemoval): boolean =>
    Number(commitTimeUs / 1000n) >= writtenMs;
  const taken = removals.flatMap((one, index) => {
    if (one === null) return [];
    return [{ ...one, isForeign: one.origin !== '' && isForeign(one.origin, index) }];
  });
  // The times of a session that has set up an origin by hand are not its transactions' own.
  if (taken.some((one) => one.isTruncate && (one.isForeign || isLast(one)))) return 'truncate';
  const deleted = taken.filter(({ isTruncate }) => !isTruncate);
  if (deleted.some((one) => one.isForeign)) return 'foreign_origin';
  const local = deleted.filter(({ origin }) => origin === '');
  if (local.length === 0) return null;
  const isConflict = local.length > 1 || !local.every(isLast);
  return isConflict ? 'conflict' : 'local_write';
}

export type IncidentEvent =
  | { readonly event: 'drift_opened'; readonly state: IncidentState }
  | { readonly event: 'drift_updated'; readonly state: IncidentState }
  | { readonly event: 'drift_reminder'; readonly state: IncidentState }
  | {
      readonly event: 'drift_resolved';
      readonly state: IncidentState;
      readonly how: ResolvedBy;
      readonly openForMs: number;
    };

/** `repair`: ours; `change`: somebody's fix or replication that came late; `teardown`: not followed any more. */
export type ResolvedBy = 'repair' | 'change' | 'teardown';

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const REMINDER_MS = 60 * MINUTE_MS;
const MAX_KEYS = 10;
/** Rows that are kept one by one; of more, their number. */
const MAX_KEPT_ROWS = 10_000;

/** What was found when blocks of a table were compared. */
export interface Findings {
  /** Null: all blocks were compared. */
  readonly blocks: ReadonlySet<number> | null;
  /** With these, no block is left that was never compared. */
  readonly isComplete: boolean;
  /** Those in which rows differ. */
  readonly drifted: ReadonlyMap<number, DriftedBlock>;
  /**
   * Blocks with rows that may be in flight still, by key; null: nothing is known of the block's. They
   * neither join an incident nor leave it.
   */
  readonly undecided: ReadonlyMap<number, ReadonlySet<string> | null>;
  readonly keys: readonly KeyText[];
  readonly certificate: BirthCertificate;
}

/** The incident of one table, if there is one; says what must be told, and when. Pure: time is given. */
export class TableIncident {
  readonly #table: string;
  readonly #newId: () => string;
  readonly #blocks = new Map<number, DriftedBlock>();
  #incident: Incident | null;
  #keys: readonly KeyText[] = [];
  #toldAtMs = 0;
  #isUpdateDue = false;
  #wasRepaired = false;
  /** What was told of a restored incident's rows; they are not known before the table is compared. */
  #last: IncidentState | null;

  /** @param restored what was open when the daemon ended */
  constructor(table: string, newId: () => string, restored: IncidentState | null = null) {
    this.#table = table;
    this.#newId = newId;
    this.#incident = restored;
    this.#last = restored;
  }

  /** Null: the table has no open incident. Asked for all the time: `state` counts all blocks. */
  get id(): string | null {
    return this.#incident?.id ?? null;
  }

  get openedAtMs(): number | null {
    return this.#incident?.openedAtMs ?? null;
  }

  /** Null: the table has no open incident. */
  get state(): IncidentState | null {
    if (this.#incident === null) return null;
    if (this.#last !== null && this.#blocks.size === 0) return { ...this.#last, ...this.#incident };
    const total = totalOf(this.#blocks.values());
    const { missing, extra, different } = total;
    const kinds = Object.entries({ missing, extra, different }).filter(([, rows]) => rows > 0);
    const [onlyKind] = kinds;
    const [agreement] = [...total.agreements].sort(([, a], [, b]) => b - a);
    return {
      ...this.#incident,
      kind: kinds.length === 1 && onlyKind !== undefined ? (onlyKind[0] as DriftKind) : 'mixed',
      rows: rowsOf(total),
      missing,
      extra,
      different,
      agreement: agreement === undefined ? [] : (JSON.parse(agreement[0]) as Agreement),
      keys: this.#keys,
    };
  }

  /** Blocks with rows that differ. */
  get blocks(): ReadonlySet<number> {
    return new Set(this.#blocks.keys());
  }

  /** A repair of ours has written to the table. */
  repaired(): void {
    this.#wasRepaired = true;
  }

  /** What may tell why, found soon after it was opened. */
  hint(hints: readonly string[]): void {
    const incident = this.#incident;
    if (incident === null || hints.every((one) => incident.certificate.hints.includes(one))) return;
    this.#incident = { ...incident, certificate: { ...incident.certificate, hints } };
    this.#isUpdateDue = true;
  }

  acknowledge(by: string): void {
    if (this.#incident !== null) this.#incident = { ...this.#incident, acknowledgedBy: by };
  }

  /**
   * Blocks keep their rows under other numbers; of one that was split the first part has them until
   * its parts have been compared. Returns the blocks that must be.
   */
  relayout(map: (block: number) => readonly [first: number, last: number]): number[] {
    const moved = [...this.#blocks];
    this.#blocks.clear();
    const unknown = new Set<number>();
    for (const [block, drifted] of moved) {
      const [first, last] = map(block);
      const other = this.#blocks.get(first);
      this.#blocks.set(first, other === undefined ? drifted : totalOf([other, drifted]));
      for (let part = first; part <= last && first !== last; part++) unknown.add(part);
    }
    return [...unknown];
  }

  /** Takes what a comparison found in the place of what was known of its blocks. */
  apply(findings: Findings, nowMs: number): IncidentEvent[] {
    const before = this.state;
    this.#take(findings);
    // Until all was compared, what was told of a restored one counts.
    if (findings.isComplete) this.#last = null;
    const known = new Set(this.#keys.map((key) => JSON.stringify(key)));
    const joined = findings.keys.filter((key) => !known.has(JSON.stringify(key)));
    this.#keys = [...joined, ...this.#keys].slice(0, MAX_KEYS);
    if (this.#blocks.size === 0)
      return this.#last === null ? this.#resolve('change', before, nowMs) : [];
    if (this.#incident === null) return this.#open(findings.certificate, nowMs);
    const after = this.state;
    if (before !== null && after !== null && isSame(before, after)) return this.due(nowMs);
    this.#isUpdateDue = true;
    return this.due(nowMs);
  }

  #take({ blocks, drifted, undecided }: Findings): void {
    for (const [block, before] of [...this.#blocks]) {
      if (blocks?.has(block) === false) continue;
      const now = afterAnotherLook(before, drifted.get(block), undecided.get(block));
      if (now === null) this.#blocks.delete(block);
      else this.#blocks.set(block, now);
    }
    for (const [block, rows] of drifted)
      if (!this.#blocks.has(block)) this.#blocks.set(block, rows);
    let kept = 0;
    for (const [block, known] of this.#blocks) {
      kept += known.rows?.size ?? 0;
      if (kept > MAX_KEPT_ROWS && known.rows !== null) this.#blocks.set(block, totalOf([known]));
    }
  }

  /** What is due by now: an update that was held back, or a reminder. */
  due(nowMs: number): IncidentEvent[] {
    const incident = this.#incident;
    if (incident === null) return [];
    // A clock that was set back holds nothing up.
    const quietMs = Math.abs(nowMs - this.#toldAtMs);
    const pauseMs = nowMs - incident.openedAtMs < MINUTE_MS ? SECOND_MS : MINUTE_MS;
    if (this.#isUpdateDue && quietMs >= pauseMs) return this.#tell('drift_updated', nowMs);
    if (quietMs >= REMINDER_MS) return this.#tell('drift_reminder', nowMs);
    return [];
  }

  /** Said again after a restart: whoever listens may have missed it. */
  remind(nowMs: number): IncidentEvent[] {
    return this.#incident === null ? [] : this.#tell('drift_reminder', nowMs);
  }

  /** The table is no longer followed. */
  end(nowMs: number): IncidentEvent[] {
    const { state } = this;
    this.#blocks.clear();
    return this.#resolve('teardown', state, nowMs);
  }

  #open(certificate: BirthCertificate, nowMs: number): IncidentEvent[] {
    this.#wasRepaired = false;
    this.#incident = {
      id: this.#newId(),
      table: this.#table,
      revision: 0,
      openedAtMs: nowMs,
      certificate,
      acknowledgedBy: null,
    };
    return this.#tell('drift_opened', nowMs);
  }

  #tell(
    event: 'drift_opened' | 'drift_updated' | 'drift_reminder',
    nowMs: number,
  ): IncidentEvent[] {
    this.#toldAtMs = nowMs;
    this.#isUpdateDue = false;
    this.#count();
    const { state } = this;
    return state === null ? [] : [{ event, state }];
  }

  #resolve(otherwise: ResolvedBy, last: IncidentState | null, nowMs: number): IncidentEvent[] {
    if (this.#incident === null || last === null) return [];
    this.#count();
    const { revision, openedAtMs } = this.#incident;
    this.#incident = null;
    this.#last = null;
    this.#keys = [];
    this.#isUpdateDue = false;
    const how = otherwise === 'change' && this.#wasRepaired ? 'repair' : otherwise;
    const none = { rows: 0, missing: 0, extra: 0, different: 0 };
    const state = { ...last, ...none, revision };
    return [{ event: 'drift_resolved', state, how, openForMs: Math.max(0, nowMs - openedAtMs) }];
  }

  #count(): void {
    const incident = this.#incident;
    if (incident !== null) this.#incident = { ...incident, revision: incident.revision + 1 };
  }
}

function isSame(a: IncidentState, b: IncidentState): boolean {
  return (
    a.missing === b.missing &&
    a.extra === b.extra &&
    a.different === b.different &&
    JSON.stringify(a.agreement) === JSON.stringify(b.agreement) &&
    JSON.stringify(a.keys) === JSON.stringify(b.keys)
  );
}
