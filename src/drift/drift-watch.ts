import { randomUUID } from 'node:crypto';
import { backoffMs, runAll } from '../base/abort.js';
import { errorMessage } from '../base/errors.js';
import { formatLsn } from '../base/lsn.js';
import { readCommitTimeNodes, readReplication } from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import { Periodic } from '../cluster/periodic.js';
import type { DriftedRow } from '../diff/settle.js';
import type { OpenRows } from '../ingest/open-rows.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { CommandContext, Verdict } from '../protocol/commands.js';
import type {
  BirthCertificate,
  DriftTrigger,
  IncidentState,
  LastWrite,
  LiveVerdict,
} from '../protocol/drift.js';
import { letChangesArrive, type Replication } from '../replication/passage.js';
import { originNodes, writerOf } from '../replication/topology.js';
import { openQuestion } from '../table/table-spec.js';
import { columnsNotCompared, isMismatch } from './coverage-watch.js';
import type { DriftEvents } from './drift-events.js';
import { causeOf, TableIncident } from './incident.js';
import {
  judgeBlocks,
  proveUnexplained,
  suspiciousBlocks,
  type Judgement,
  type JudgeOptions,
} from './judge.js';

/** Rows are given so long to be shown by all streams before replication is asked whether it has passed. */
const GRACE_MS = 50;
/** Between two looks at what is open. */
const POLL_MS = 25;
/** When something does not get on: a subscription, a node, a table that a command works on. */
const REST_MS = 500;
/** A table whose rows do not settle is left alone for longer and longer. */
const UNSETTLED_BACKOFF = { firstMs: 500, maxMs: 15_000 };
const PASSAGE_TIMEOUT_MS = 10_000;
const FENCE_TIMEOUT_MS = 30_000;

interface Judged {
  readonly table: TrackedTable;
  readonly openRows: OpenRows;
  readonly incident: TableIncident;
  /** All its rows have been compared since it is followed. */
  isCompared: boolean;
  /** What holds its changes up on their way; null: nothing that is known. */
  heldUpBy: string | null;
  /** Rounds in a row that left rows unsettled, and when the next may begin. */
  unsettledRounds: number;
  restsUntilMs: number;
  told: { readonly verdict: Verdict; readonly sinceMs: number };
}

/** What one round works with: nothing of it is older than the round. */
interface Round {
  readonly startedAtMs: number;
  readonly replication: Replication;
  readonly commitTimeNodes: ReadonlySet<string>;
  readonly positions: Readonly<Record<string, string>>;
  readonly context: CommandContext;
}

/**
 * Judges all tracked tables all the time. Rows that the streams have shown changed, and not alike,
 * are left alone until replication and our own streams have passed what was committed when they were
 * seen; then their blocks are read on all nodes, and what still differs is an incident.
 */
export class DriftWatch {
  readonly #cluster: Cluster;
  readonly #events: DriftEvents;
  readonly #judged = new Map<TrackedTable, Judged>();
  readonly #loop: Periodic;
  /** Why replication, or a stream of ours, does not get on; null: it does. */
  #starvedBy: string | null = null;

  constructor(cluster: Cluster, events: DriftEvents) {
    this.#cluster = cluster;
    this.#events = events;
    this.#loop = new Periodic({
      log: cluster.log,
      failureEvent: 'drift_watch_failed',
      restAfterFailureMs: REST_MS,
      round: (signal) => this.#round(signal),
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  get incidents(): readonly IncidentState[] {
    return Array.from(this.#judged.values(), ({ incident }) => incident.state).filter(
      (state) => state !== null,
    );
  }

  /** A repair of ours has written to the table. */
  repaired(table: string): void {
    for (const judged of this.#judged.values()) {
      if (judged.table.label === table) judged.incident.repaired();
    }
  }

  /** Returns the incident, or null when no open one has this id. */
  acknowledge(id: string, by: string): IncidentState | null {
    const found = [...this.#judged.values()].find(({ incident }) => incident.id === id);
    found?.incident.acknowledge(by);
    const state = found?.incident.state ?? null;
    if (state !== null) this.#events.keep(state);
    return state;
  }

  verdict(table: TrackedTable): LiveVerdict | null {
    const judged = this.#judged.get(table);
    return judged === undefined ? null : this.#verdictOf(judged);
  }

  async #round(signal: AbortSignal): Promise<number> {
    this.#followTables();
    const nowMs = Date.now();
    for (const { incident } of this.#judged.values()) this.#events.tell(incident.due(nowMs));
    this.#events.tellDue(nowMs);
    this.#noteVerdicts(nowMs);
    if (!this.#isStreaming) return POLL_MS;
    const overdueAtMs = nowMs - GRACE_MS;
    const overdue = [...this.#judged.values()].filter(
      ({ table, openRows, restsUntilMs }) =>
        table.state === 'live' &&
        restsUntilMs <= nowMs &&
        openRows.blocksQuietSince(overdueAtMs)?.size !== 0,
    );
    if (overdue.length === 0) return POLL_MS;
    const round = await this.#passEverything(nowMs, signal);
    if (round === null) return REST_MS;
    let isHeldUp = false;
    for (const judged of overdue) {
      const { schema, name } = judged.table.spec;
      const mutex = this.#cluster.mutex(schema, name);
      // A command works on the table; its rows stay open.
      if (mutex.isBusy) isHeldUp = true;
      else await mutex.run(() => this.#judge(judged, overdueAtMs, round));
    }
    this.#noteVerdicts(Date.now());
    return isHeldUp ? REST_MS : POLL_MS;
  }

  get #isStreaming(): boolean {
    const { pipelines } = this.#cluster;
    return (
      pipelines.size > 0 && [...pipelines.values()].every(({ state }) => state.kind === 'streaming')
    );
  }

  /** Tables come and go, and are built again as other objects. */
  #followTables(): void {
    const tables = new Set(this.#cluster.tables);
    const given = new Map<string, TableIncident>();
    for (const [table, { incident }] of this.#judged) {
      if (tables.has(table)) continue;
      this.#judged.delete(table);
      given.set(table.label, incident);
    }
    for (const table of tables) {
      if (this.#judged.has(table) || table.openRows === null) continue;
      // A table that is built again keeps its incident.
      const incident =
        given.get(table.label) ??
        new TableIncident(table.label, randomUUID, this.#events.restored(table.label));
      if (!given.delete(table.label)) this.#events.tell(incident.remind(Date.now()));
      table.onLayoutChange((map) => incident.relayout(map));
      this.#judged.set(table, {
        table,
        openRows: table.openRows,
        incident,
        isCompared: false,
        heldUpBy: null,
        unsettledRounds: 0,
        restsUntilMs: 0,
        told: { verdict: 'unverified', sinceMs: Date.now() },
      });
    }
    for (const incident of given.values()) this.#events.tell(incident.end(Date.now()));
  }

  /**
   * Waits until replication and our own streams have passed all that is committed now. Null: they
   * do not get there; what is open stays open.
   */
  async #passEverything(startedAtMs: number, signal: AbortSignal): Promise<Round | null> {
    const { pools, pipelines, config } = this.#cluster;
    const reasons: string[] = [];
    try {
      const replication = await readReplication(pools, pools, signal);
      const passage = await letChangesArrive(
        { replication, signal, onWarning: (message) => reasons.push(message) },
        PASSAGE_TIMEOUT_MS,
      );
      if (!passage.hasPassed || !passage.isWhole) {
        this.#starvedBy = reasons.join('; ');
        return null;
      }
      const positions = await runAll(pipelines, signal, async ([node, pipeline], either) => {
        const fence = await pipeline.takeFence(either);
        await pipeline.waitForPosition(fence, FENCE_TIMEOUT_MS, either);
        return [node, formatLsn(pipeline.position)] as const;
      });
      const commitTimeNodes = await readCommitTimeNodes(pools, signal);
      this.#starvedBy = null;
      const context = {
        signal,
        reportDir: config.stateDir,
        emit: () => undefined,
      };
      return {
        startedAtMs,
        replication,
        commitTimeNodes,
        positions: Object.fromEntries(positions),
        context,
      };
    } catch (error) {
      if (signal.aborted) throw error;
      this.#starvedBy = errorMessage(error);
      return null;
    }
  }

  async #judge(judged: Judged, overdueAtMs: number, round: Round): Promise<void> {
    const { table, openRows, incident } = judged;
    if (!this.#cluster.tables.includes(table) || table.state !== 'live') return;
    // Many have closed by themselves meanwhile.
    const blocks = openRows.blocksQuietSince(overdueAtMs);
    if (blocks?.size === 0) return;
    const options: JudgeOptions = { cluster: this.#cluster, table, ...round };
    const suspicious = blocks === null ? await suspiciousBlocks(options) : [...blocks];
    const found = await judgeBlocks(suspicious, options);
    const compared = blocks === null ? null : new Set(blocks);
    openRows.close(compared, round.startedAtMs);
    for (const block of found.unsettled) openRows.openBlock(block, Date.now());
    if (blocks === null) judged.isCompared = true;
    judged.heldUpBy = found.heldUpBy;
    judged.unsettledRounds = found.unsettled.size === 0 ? 0 : judged.unsettledRounds + 1;
    judged.restsUntilMs =
      judged.unsettledRounds === 0
        ? 0
        : Date.now() + backoffMs(judged.unsettledRounds, UNSETTLED_BACKOFF);
    const trigger = blocks === null ? 'whole_table' : 'change';
    const findings = {
      blocks: withoutUnsettled(compared, found, table),
      drifted: found.drifted,
      keys: found.rows.map(({ key }) => key),
      certificate: certificateOf(found.rows[0], { trigger, round, nodes: table.nodes }),
    };
    this.#events.tell(incident.apply(findings, Date.now()));
    openRows.watchBlocks(incident.blocks);
    // Last: a stream that does not get on then costs no finding.
    if (blocks === null) await proveUnexplained(suspicious, found, options);
  }

  #verdictOf(judged: Judged): LiveVerdict {
    const { table, openRows, incident, told } = judged;
    const open = openRows.size + openRows.openBlocks + (openRows.isWholeTableOpen ? 1 : 0);
    const [verdict, reason] = this.#decide(judged, open);
    const sinceMs = told.verdict === verdict ? told.sinceMs : Date.now();
    return {
      verdict,
      sinceMs,
      reason: [reason, table.reason].filter((one) => one !== null).join(': ') || null,
      positions: this.#positions,
      openRows: open,
      incident: incident.id,
    };
  }

  get #positions(): Record<string, string> {
    return Object.fromEntries(
      Array.from(this.#cluster.pipelines, ([node, { position }]) => [node, formatLsn(position)]),
    );
  }

  #decide(
    { table, incident, isCompared, heldUpBy }: Judged,
    open: number,
  ): readonly [Verdict, string | null] {
    if (table.state !== 'live') {
      return [isMismatch(table) ? 'schema_mismatch' : 'unverified', `its tree is ${table.state}`];
    }
    for (const { name, state } of this.#cluster.pipelines.values()) {
      if (state.kind !== 'streaming')
        return ['unverified', `the stream of ${name} is ${state.kind}`];
    }
    if (incident.id !== null) return ['drift', null];
    const starvedBy = this.#starvedBy ?? heldUpBy;
    if (open > 0 && starvedBy !== null) return ['starved', starvedBy];
    if (!isCompared) return ['unverified', 'its rows have not been compared yet'];
    if (open > 0) return ['in_flight', null];
    const question = openQuestion(table.spec);
    return question === null ? ['match', null] : [question, columnsNotCompared(table.spec)];
  }

  #noteVerdicts(nowMs: number): void {
    for (const judged of this.#judged.values()) {
      const { verdict } = this.#verdictOf(judged);
      if (verdict !== judged.told.verdict) judged.told = { verdict, sinceMs: nowMs };
    }
  }
}

/** Nothing was learned of unsettled blocks: what is known of them stays. */
function withoutUnsettled(
  compared: ReadonlySet<number> | null,
  { unsettled }: Judgement,
  table: TrackedTable,
): ReadonlySet<number> | null {
  if (unsettled.size === 0) return compared;
  const all = compared ?? new Set(Array.from({ length: table.layout.size }, (_, block) => block));
  return new Set([...all].filter((block) => !unsettled.has(block)));
}

function certificateOf(
  row: DriftedRow | undefined,
  { trigger, round, nodes }: { trigger: DriftTrigger; round: Round; nodes: readonly string[] },
): BirthCertificate {
  const { positions, replication } = round;
  const origins = nodes.map((node) => originNodes(replication.topology.edges, node));
  if (row === undefined) {
    return { trigger, cause: 'unknown', detectedAfterMs: null, positions, lastWrites: {} };
  }
  const lastWrites: Record<string, LastWrite> = {};
  let lastCommitMs = -Infinity;
  nodes.forEach((node, i) => {
    const image = row.rows[i] ?? null;
    lastWrites[node] = {
      xid: image?.version ?? null,
      commitTime: image?.commitTs ?? null,
      origin: writerOf(image?.origin ?? null, origins[i]),
    };
    const commitMs = image?.commitTs == null ? NaN : Date.parse(image.commitTs);
    if (commitMs > lastCommitMs) lastCommitMs = commitMs;
  });
  const detectedAfterMs =
    trigger === 'change' && lastCommitMs > 0 ? Math.max(0, Date.now() - lastCommitMs) : null;
  const cause = causeOf(row.rows, (origin, i) => origins[i]?.has(origin) !== true);
  return { trigger, cause, detectedAfterMs, positions, lastWrites };
}
