import { randomUUID } from 'node:crypto';
import { runAll } from '../base/abort.js';
import { steadyNowMs } from '../base/clock.js';
import { errorMessage, logMessage } from '../base/errors.js';
import { formatLsn } from '../base/lsn.js';
import { readCommitTimeNodes, readReplication } from '../cluster/cluster-table.js';
import type { Cluster } from '../cluster/cluster.js';
import type { Mutex } from '../cluster/mutex.js';
import { Loop, tellsFailures } from '../base/loop.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { CommandContext, Verdict } from '../protocol/commands.js';
import type { IncidentState, LiveVerdict } from '../protocol/drift.js';
import { letChangesArrive, PassageWarnings, type Replication } from '../replication/passage.js';
import { towards } from '../replication/topology.js';
import { CANARY_TABLE } from '../mirror/mirror-schema.js';
import { openQuestion } from '../table/table-spec.js';
import { certificateOf } from './certificate.js';
import { Crew } from './crew.js';
import { columnsNotCompared, isMismatch } from './coverage-watch.js';
import type { DriftEvents } from './drift-events.js';
import { TableIncident, type IncidentEvent } from './incident.js';
import {
  differingKeys,
  judgeBlocks,
  proveUnexplained,
  suspiciousBlocks,
  type JudgeOptions,
} from './judge.js';
import { JudgedTable, without } from './judged-table.js';
import { removalsOf } from './row-removals.js';
import { ReachWatch } from './reach-watch.js';
import type { Reach } from './reach.js';

/** Rows are given so long to be shown by all streams before replication is asked whether it has passed. */
const GRACE_MS = 50;
/** Between two looks at what is open. */
const POLL_MS = 25;
/** When something does not get on: a subscription, a node, a table that a command works on. */
const REST_MS = 500;
const PASSAGE_TIMEOUT_MS = 10_000;
/** A path that did not get on the last time does not hold up the others for long. */
const STARVED_TIMEOUT_MS = 1_000;
const FENCE_TIMEOUT_MS = 30_000;
/** Verdicts of tables without open rows change with a stream, a tree's state or how changes travel. */
const NOTE_MS = 500;
/** Trouble of subscriptions that was seen so long before an incident, or after it, may be its reason. */
const HINTS_BEFORE_MS = 30_000;
const HINTS_AFTER_MS = 10_000;

/** What one round works with: nothing of it is older than the round. */
interface Round {
  readonly startedAtMs: number;
  readonly replication: Replication;
  /** Nodes that may lack changes which something holds up. */
  readonly lagging: ReadonlySet<string>;
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
  readonly #judged = new Map<TrackedTable, JudgedTable>();
  readonly #reach: ReachWatch;
  readonly #startedAtMs = Date.now();
  readonly #loop: Loop;
  /** A table that takes its time, after a TRUNCATE of many rows say, holds up none of the others. */
  readonly #crew = new Crew<JudgedTable>();
  /** What #followTables saw last: it has nothing to do while both are the same. */
  #followed: readonly TrackedTable[] = [];
  #reachSeen: unknown = null;
  #openBefore: readonly JudgedTable[] = [];
  #notedAtMs = -Infinity;
  /** Why replication, or a stream of ours, does not get on; null: it does. */
  #starvedBy: string | null = null;

  constructor(cluster: Cluster, events: DriftEvents) {
    this.#cluster = cluster;
    this.#events = events;
    this.#reach = new ReachWatch(cluster);
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'drift_watch_failed'),
      backoff: { firstMs: REST_MS, maxMs: REST_MS },
      round: (signal) => this.#round(signal),
    });
  }

  async stop(): Promise<void> {
    await Promise.all([this.#loop.stop(), this.#reach.stop()]);
    await this.#crew.end();
  }

  get incidents(): readonly IncidentState[] {
    return Array.from(this.#judged.values(), ({ incident }) => incident.state)
      .filter((state) => state !== null)
      .filter(({ table }) => table !== this.#canary);
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

  verdict(table: TrackedTable): LiveVerdict {
    const judged = this.#judged.get(table);
    if (judged !== undefined) return this.#verdictOf(judged);
    return {
      verdict: 'unverified',
      sinceMs: this.#startedAtMs,
      reason: 'not looked at yet since aced started',
      positions: this.#positions,
      openRows: 0,
      incident: null,
    };
  }

  /** Blocks in which rows are known to differ. */
  driftedBlocks(table: TrackedTable): ReadonlySet<number> {
    return this.#judged.get(table)?.incident.blocks ?? new Set();
  }

  /** When the verdict on the table was last match; null: not since it is followed. */
  matchedAtMs(table: TrackedTable): number | null {
    return this.#judged.get(table)?.matchedAtMs ?? null;
  }

  async #round(signal: AbortSignal): Promise<number> {
    this.#followTables();
    const nowMs = Date.now();
    const startedAtMs = steadyNowMs();
    const open: JudgedTable[] = [];
    for (const judged of this.#judged.values()) {
      const { incident } = judged;
      if (judged.open > 0) open.push(judged);
      if (incident.id === null) continue;
      this.#hint(incident, nowMs);
      this.#tell(incident.due(nowMs));
    }
    this.#events.tellDue(nowMs);
    this.#noteVerdicts(open, startedAtMs);
    if (!this.#isStreaming) return POLL_MS;
    const overdueAtMs = startedAtMs - GRACE_MS;
    const overdue = open.filter(
      (one) =>
        !this.#crew.has(one) &&
        one.isOverdue(overdueAtMs) &&
        !this.#cluster.repairs.leaves(one.table.spec, one.lookedAtMs, startedAtMs),
    );
    if (overdue.length === 0) return POLL_MS;
    const round = await this.#passEverything(startedAtMs, signal);
    if (round === null) return REST_MS;
    const judge = async (judged: JudgedTable): Promise<void> => {
      await this.#mutexOf(judged).run(async () => {
        this.#crew.begin(judged);
        if (!signal.aborted) await this.#judgeOrTell(judged, overdueAtMs, round);
      });
    };
    // A command that works on a table lets others have their turns: who does not wait never gets one.
    const isBusy = (one: JudgedTable): boolean => this.#mutexOf(one).isBusy;
    for (const one of overdue.filter(isBusy)) this.#crew.await(one, judge);
    await this.#crew.work(overdue, judge);
    this.#noteVerdicts(open, steadyNowMs());
    return round.lagging.size > 0 ? REST_MS : POLL_MS;
  }

  /** Of the canary's table nobody but the canary is told. */
  #tell(events: readonly IncidentEvent[]): void {
    this.#events.tell(events.filter(({ state }) => state.table !== this.#canary));
  }

  get #canary(): string {
    return `${this.#cluster.config.nodeSchema}.${CANARY_TABLE}`;
  }

  #mutexOf({ table }: JudgedTable): Mutex {
    return this.#cluster.mutex(table.spec.schema, table.spec.name);
  }

  /** Counters are sent a second or more after what they count. */
  #hint(incident: TableIncident, nowMs: number): void {
    const { openedAtMs } = incident;
    if (openedAtMs === null || nowMs - openedAtMs > HINTS_AFTER_MS) return;
    incident.hint(this.#hintsOf(openedAtMs));
  }

  /** A hint is worth no finding. */
  async #readCounters({ context: { signal } }: Round): Promise<void> {
    await this.#reach.readCounters(signal).catch(() => undefined);
  }

  #hintsOf(openedAtMs: number): string[] {
    return this.#reach.trouble(openedAtMs - HINTS_BEFORE_MS, openedAtMs + HINTS_AFTER_MS);
  }

  get #isStreaming(): boolean {
    const { pipelines } = this.#cluster;
    return (
      pipelines.size > 0 && [...pipelines.values()].every(({ state }) => state.kind === 'streaming')
    );
  }

  /** Tables come and go, and are built again as other objects. */
  #followTables(): void {
    const list = this.#cluster.tables;
    if (list === this.#followed && this.#reach.seen === this.#reachSeen) return;
    this.#followed = list;
    this.#reachSeen = this.#reach.seen;
    const tables = new Set(list);
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
      if (!given.delete(table.label)) this.#tell(incident.remind(Date.now()));
      const judged = new JudgedTable(table, table.openRows, incident);
      table.onLayoutChange((map) => {
        judged.relayout(map);
        const nowMs = steadyNowMs();
        for (const block of incident.relayout(map)) judged.openRows.openBlock(block, nowMs);
      });
      this.#judged.set(table, judged);
    }
    const nowMs = steadyNowMs();
    for (const [table, judged] of this.#judged) {
      judged.learn(this.#reach.of(table), nowMs);
      // No two nodes are meant to have the same any more.
      if (judged.comparable.length < 2) this.#tell(judged.incident.end(Date.now()));
    }
    for (const incident of given.values()) this.#tell(incident.end(Date.now()));
  }

  /**
   * Waits until replication and our own streams have passed all that is committed now, on all nodes
   * that it gets to. Null: there are not two such nodes; what is open stays open.
   */
  async #passEverything(startedAtMs: number, signal: AbortSignal): Promise<Round | null> {
    const { pools, pipelines, config } = this.#cluster;
    const warnings = new PassageWarnings();
    try {
      const replication = await readReplication(pools, pools, signal);
      const passage = await letChangesArrive(
        { replication, signal, onWarning: warnings.add },
        this.#starvedBy === null ? PASSAGE_TIMEOUT_MS : STARVED_TIMEOUT_MS,
      );
      const isStarved = !passage.hasPassed || !passage.isWhole;
      const starvedBy = isStarved ? warnings.texts.join('; ') : null;
      this.#starvedBy = starvedBy ?? this.#starvedBy;
      if (pools.size - passage.lagging.size < 2) return null;
      const positions = await runAll(pipelines, signal, async ([node, pipeline], either) => {
        const fence = await pipeline.takeFence(either);
        await pipeline.waitForPosition(fence, FENCE_TIMEOUT_MS, either);
        return [node, formatLsn(pipeline.position)] as const;
      });
      const commitTimeNodes = await readCommitTimeNodes(pools, signal);
      this.#starvedBy = starvedBy;
      const context = {
        signal,
        reportDir: config.stateDir,
        emit: () => undefined,
      };
      return {
        startedAtMs,
        replication,
        lagging: passage.lagging,
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

  /** A table that cannot be read keeps none of the others from being judged. Never rejects. */
  async #judgeOrTell(judged: JudgedTable, overdueAtMs: number, round: Round): Promise<void> {
    try {
      await this.#judge(judged, overdueAtMs, round);
      judged.failure = null;
      judged.rest(false);
    } catch (error) {
      if (round.context.signal.aborted) return;
      judged.rest(true);
      judged.heldUpBy = errorMessage(error);
      const message = logMessage(error);
      if (message === judged.failure) return;
      judged.failure = message;
      this.#cluster.log.warn({ event: 'judge_failed', table: judged.table.label }, message);
    }
  }

  async #judge(judged: JudgedTable, overdueAtMs: number, round: Round): Promise<void> {
    const { table, openRows, incident } = judged;
    judged.lookedAtMs = steadyNowMs();
    if (!this.#cluster.isTracked(table) || table.state !== 'live') return;
    const nodes = judged.settledNodes(round.lagging);
    judged.heldUpBy = copiesOf(judged.reach);
    if (nodes.length < 2) return;
    const isPart = nodes.length < judged.comparable.length;
    judged.reopenWaiting(nodes, overdueAtMs);
    // Many have closed by themselves meanwhile.
    const blocks = openRows.blocksQuietSince(overdueAtMs, judged.indexesOf(nodes));
    if (blocks?.size === 0) return;
    const { topology } = round.replication;
    const options: JudgeOptions = {
      ...round,
      cluster: this.#cluster,
      table,
      nodes,
      replication: { ...round.replication, topology: towards(topology, new Set(nodes)) },
    };
    const suspicious = blocks === null ? await suspiciousBlocks(options) : [...blocks];
    const isOfWholeTable = blocks === null || suspicious.some((block) => judged.isUnknown(block));
    openRows.observe(suspicious);
    const found = await judgeBlocks(suspicious, options);
    const isFirst = incident.id === null && found.drifted.size > 0;
    // Before rows close: who took one away is known while it is open.
    const removals = await removalsOf(isFirst ? found.rows[0] : undefined, options);
    const compared = blocks === null ? null : new Set(blocks);
    openRows.close(compared, round.startedAtMs);
    const looked = without(compared, found.left, table);
    if (isPart) judged.wait(compared, nodes);
    judged.reopenUnsettled(new Set(found.undecided.keys()), looked, steadyNowMs());
    for (const block of found.left) openRows.openBlock(block, overdueAtMs);
    if (!isPart) judged.compared(compared, new Set([...found.undecided.keys(), ...found.left]));
    judged.heldUpBy = found.heldUpBy ?? judged.heldUpBy;
    const trigger = isOfWholeTable ? 'whole_table' : 'change';
    // What has grown since the last look may be of this.
    if (isFirst) await this.#readCounters(round);
    const hints = this.#hintsOf(Date.now());
    const { positions } = round;
    const facts = { trigger, topology, positions, nodes, hints, removals } as const;
    const findings = {
      blocks: looked,
      isComplete: judged.isCompared,
      drifted: found.drifted,
      undecided: isPart ? await this.#elsewhere(judged, looked, options) : found.undecided,
      keys: found.rows.map(({ key }) => key),
      certificate: certificateOf(found.rows[0], facts),
    };
    this.#tell(incident.apply(findings, Date.now()));
    openRows.watchBlocks(incident.blocks);
    const { blocks: known } = incident;
    for (const block of openRows.closedMeanwhile) {
      if (known.has(block)) openRows.openBlock(block, steadyNowMs());
    }
    openRows.observe([]);
    // Last: a stream that does not get on then costs no finding.
    if (isOfWholeTable) await proveUnexplained(suspicious, found, options);
  }

  /**
   * Of the blocks in which rows are known to differ, and that were compared now on some nodes: the rows
   * that differ on any node, also where it is not known whether that is drift. Of the others an
   * incident may end while the rest of the nodes lag.
   */
  async #elsewhere(
    { incident, comparable }: JudgedTable,
    compared: ReadonlySet<number> | null,
    options: JudgeOptions,
  ): Promise<ReadonlyMap<number, ReadonlySet<string> | null>> {
    const known = [...incident.blocks].filter((block) => compared?.has(block) !== false);
    try {
      return await differingKeys(known, { ...options, nodes: comparable });
    } catch {
      // A node that cannot be asked now, say: nothing is known of these.
      options.context.signal.throwIfAborted();
      return new Map(known.map((block) => [block, null]));
    }
  }

  #verdictOf(judged: JudgedTable): LiveVerdict {
    const { table, incident, told, open } = judged;
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
    { table, incident, isCompared, heldUpBy, reach, comparable }: JudgedTable,
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
    if (reach === null) return ['unverified', 'how its changes travel is not known yet'];
    const leftOut = leftOutOf(reach);
    if (comparable.length < 2) return ['unverified', leftOut];
    const starvedBy = this.#starvedBy ?? heldUpBy;
    if (open > 0 && starvedBy !== null) return ['starved', starvedBy];
    if (!isCompared) return ['unverified', 'its rows have not been compared yet'];
    if (open > 0) return ['in_flight', null];
    if (leftOut !== null) return ['unverified', leftOut];
    const question = openQuestion(table.spec);
    return question === null ? ['match', null] : [question, columnsNotCompared(table.spec)];
  }

  /** Of tables with open rows, and of those that had some, at once; of all others now and then. */
  #noteVerdicts(open: readonly JudgedTable[], steadyMs: number): void {
    const isAll = steadyMs - this.#notedAtMs >= NOTE_MS;
    if (isAll) this.#notedAtMs = steadyMs;
    const nowMs = Date.now();
    for (const judged of isAll ? this.#judged.values() : new Set([...open, ...this.#openBefore])) {
      const [verdict] = this.#decide(judged, judged.open);
      if (verdict === 'match') judged.matchedAtMs = nowMs;
      if (verdict !== judged.told.verdict) judged.told = { verdict, sinceMs: nowMs };
    }
    this.#openBefore = open;
  }
}

/** Nodes that are not compared, since they are not meant to have the same. */
function leftOutOf(reach: Reach): string | null {
  const left = [...reach].filter(([, { why }]) => why !== 'copying');
  if (left.length === 0) return null;
  const reasons = new Set(left.map(([, { reason }]) => reason));
  return `not compared on ${left.map(([node]) => node).join(', ')}: ${[...reasons].join('; ')}`;
}

function copiesOf(reach: Reach | null): string | null {
  const reasons = [...(reach?.values() ?? [])].flatMap(({ why, reason }) =>
    why === 'copying' ? [reason] : [],
  );
  return reasons.length === 0 ? null : [...new Set(reasons)].join('; ');
}
