import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { steadyNowMs } from '../base/clock.js';
import type { Cluster } from '../cluster/cluster.js';
import { DIGEST_VERSION } from '../digest/digest-column.js';
import type { WalGuard } from '../cluster/wal-guard.js';
import type { DriftEvent } from '../drift/drift-event.js';
import type { DriftEvents } from '../drift/drift-events.js';
import type { DriftWatch } from '../drift/drift-watch.js';
import { isTimeKnown } from '../ingest/removals.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { NodeRepairCounts, Verdict } from '../protocol/commands.js';
import type { JobStatus, Task } from '../protocol/tasks.js';
import { METRICS, type MetricId, type MetricSpec } from './metric-names.js';
import { Samples } from './samples.js';
import { Tally } from './tally.js';

/** With more tables, `auto` gives none a series of its own. */
const MAX_TABLES = 500;
/** The oldest proof is found by going over all leaves: not with each scrape. */
const PROOFS_FOR_MS = 30_000;
/** The loop's delay is looked at so often; the default of 10 ms wakes an idle daemon 100 times a second. */
const LOOP_PRECISION_MS = 100;
const DETECTION_BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** Shown with 0 too, so that a rule over them has something to compare. */
const VERDICTS: readonly Verdict[] = [
  'match',
  'in_flight',
  'drift',
  'starved',
  'schema_mismatch',
  'unverified',
];

export interface MetricsOptions {
  readonly cluster: Cluster;
  /** Null: nobody judges the tables all the time. */
  readonly watch: DriftWatch | null;
  readonly events: DriftEvents;
  readonly walGuard: WalGuard;
  readonly version: string;
  /** The scheduled jobs that there are. */
  readonly jobs: () => readonly JobStatus[];
  /** When a canary was last found on every node; null: not since the start. */
  readonly canaryFoundAtMs: () => number | null;
}

/** Of a job: it proved or did what it should, whatever it found. */
const SUCCESSES: ReadonlySet<string> = new Set(['match', 'drift', 'equal', 'different', 'done']);

/**
 * What Prometheus is told. A scrape reads what the daemon holds in memory: no node is asked, and
 * scrapes that come at once share one reading.
 */
export class Metrics {
  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;
  readonly #options: MetricsOptions;
  readonly #registry = new Registry();
  readonly #instruments = new Map<MetricId, Counter | Gauge>();
  readonly #detection: Histogram;
  readonly #opened = new Tally('opened');
  readonly #closed = new Tally('closed');
  readonly #repaired = new Tally('repaired');
  readonly #events = new Tally('events');
  readonly #commands = new Tally('commands');
  readonly #jobRuns = new Tally('jobRuns');
  /** Job -> when it last succeeded; null: not that anybody knows of. */
  readonly #jobSuccesses = new Map<string, number | null>();
  readonly #proofs = new WeakMap<
    TrackedTable,
    { readonly atMs: number; readonly oldestMs: number }
  >();
  #scraping: Promise<string> | null = null;

  constructor(options: MetricsOptions) {
    this.#options = options;
    const registers = [this.#registry];
    this.#registry.setDefaultLabels({ cluster: options.cluster.config.cluster });
    for (const [id, spec] of Object.entries(METRICS) as [MetricId, MetricSpec][]) {
      const { name, kind, help, labels } = spec;
      const form = { name, help, labelNames: [...labels], registers };
      if (kind === 'gauge') this.#instruments.set(id, new Gauge(form));
      else if (kind === 'counter') this.#instruments.set(id, new Counter(form));
    }
    const { name, help } = METRICS.detection;
    this.#detection = new Histogram({ name, help, buckets: DETECTION_BUCKETS, registers });
    collectDefaultMetrics({
      register: this.#registry,
      eventLoopMonitoringPrecision: LOOP_PRECISION_MS,
    });
    options.events.listen((event) => this.#told(event));
  }

  /** The text that is scraped, in Prometheus' format 0.0.4. */
  async scrape(): Promise<string> {
    this.#scraping ??= this.#scrape().finally(() => {
      this.#scraping = null;
    });
    return this.#scraping;
  }

  /** A command has ended; `outcome` is `done` or an error's code. */
  commandEnded(command: string, outcome: string): void {
    this.#commands.add({ command, outcome });
  }

  /** A run of a scheduled job has ended; `outcome` is that of its task. */
  jobEnded(job: string, outcome: string): void {
    this.#jobRuns.add({ job, result: outcome });
    if (SUCCESSES.has(outcome)) this.#jobSuccesses.set(job, Date.now());
  }

  /** A repair has written rows. */
  repaired(table: string, nodes: Readonly<Record<string, NodeRepairCounts>>): void {
    const counts = { applied: 0, skipped: 0, failed: 0 };
    for (const { upserted, deleted, skipped, failed } of Object.values(nodes)) {
      counts.applied += upserted + deleted;
      counts.skipped += skipped;
      counts.failed += failed;
    }
    for (const [result, rows] of Object.entries(counts))
      this.#repaired.add({ table, result }, rows);
  }

  #told({ fields }: DriftEvent): void {
    const { event, table, cause, how, detectedAfterMs } = fields;
    this.#events.add({ event: String(event) });
    if (event === 'drift_opened') {
      this.#opened.add({ table: String(table), cause: String(cause) });
      if (typeof detectedAfterMs === 'number') this.#detection.observe(detectedAfterMs / 1000);
    }
    if (event === 'drift_resolved') this.#closed.add({ table: String(table), how: String(how) });
  }

  async #scrape(): Promise<string> {
    const { tables, config } = this.#options.cluster;
    const { perTable } = config.metrics;
    const isPerTable = perTable === 'auto' ? tables.length <= MAX_TABLES : perTable === 'always';
    const samples = new Samples({ isPerTable });
    samples.add(
      'buildInfo',
      {
        version: this.#options.version,
        node_version: process.versions.node,
        digest_version: String(DIGEST_VERSION),
      },
      1,
    );
    this.#readNodes(samples);
    for (const { kind } of this.#options.cluster.conditions.open) {
      samples.add('conditions', { kind }, 1);
    }
    this.#readTables(samples, tables);
    const alive = {
      table: new Set(tables.map(({ label }) => label)),
      job: new Set(this.#readJobs(samples)),
    };
    const tallies = [this.#opened, this.#closed, this.#repaired, this.#events, this.#commands];
    for (const tally of [...tallies, this.#jobRuns]) tally.report(samples, alive);
    const foundAtMs = this.#options.canaryFoundAtMs();
    if (foundAtMs !== null) samples.add('canaryAge', {}, (steadyNowMs() - foundAtMs) / 1000);
    for (const [id, instrument] of this.#instruments) {
      instrument.reset();
      if (METRICS[id].labels.length === 0 && samples.of(id).length === 0) instrument.remove();
      // Without labels a reset one shows 0, which is a value; with labels it shows nothing.
      for (const { labels: of, value } of samples.of(id)) instrument.inc(of, value);
    }
    return this.#registry.metrics();
  }

  /** Returns the names of the jobs. */
  #readJobs(samples: Samples): string[] {
    const jobs = this.#options.jobs();
    for (const { name: job, last } of jobs) {
      const before = last !== null && SUCCESSES.has(last.outcome) ? endedAtMs(last) : null;
      const atMs = this.#jobSuccesses.get(job) ?? before;
      if (atMs !== null) samples.add('jobSuccess', { job }, atMs / 1000);
    }
    return jobs.map(({ name }) => name);
  }

  #readNodes(samples: Samples): void {
    const { cluster, walGuard } = this.#options;
    for (const { name: node } of cluster.config.nodes) {
      const pipeline = cluster.pipelines.get(node);
      samples.add('up', { node }, pipeline?.state.kind === 'streaming' ? 1 : 0);
      samples.add('gaps', { node }, cluster.gaps.get(node) ?? 0);
      if (pipeline !== undefined) {
        const { commit } = pipeline.lastTransaction;
        samples.add('position', { node }, Number(pipeline.position));
        samples.add('changes', { node }, pipeline.changes);
        samples.add('reconnects', { node }, Math.max(0, pipeline.connection - 1));
        if (commit !== null && isTimeKnown(commit.timeUs))
          samples.add('lastCommit', { node }, Number(commit.timeUs) / 1e6);
      }
      const slot = walGuard.slots.get(node);
      if (slot === undefined) continue;
      samples.add('retained', { node }, slot.retainedBytes);
      samples.add('budget', { node }, slot.retainedBytes + slot.bytesLeft);
      if (slot.secondsLeft !== null) samples.add('secondsLeft', { node }, slot.secondsLeft);
      if (slot.lagBytes !== null) samples.add('lag', { node }, slot.lagBytes);
    }
  }

  #readTables(samples: Samples, tables: readonly TrackedTable[]): void {
    const { watch } = this.#options;
    const nowMs = Date.now();
    const steadyMs = steadyNowMs();
    const counts = new Map<Verdict, number>(VERDICTS.map((verdict) => [verdict, 0]));
    for (const tracked of tables) {
      const { label: table, openRows } = tracked;
      for (const node of tracked.nodes) {
        samples.add('dirtyBlocks', { node, table }, tracked.leaves(node).dirtyCount);
      }
      samples.add('oldestProof', { table }, this.#oldestProofMs(tracked, nowMs) / 1000);
      const live = watch?.verdict(tracked) ?? null;
      if (live === null || openRows === null) continue;
      const { verdict } = live;
      counts.set(verdict, (counts.get(verdict) ?? 0) + 1);
      samples.add('verdict', { table, verdict }, 1);
      samples.add('openRows', { table }, live.openRows);
      const matchedAtMs = watch?.matchedAtMs(tracked) ?? null;
      if (matchedAtMs !== null) samples.add('matched', { table }, matchedAtMs / 1000);
      const oldestMs = openRows.isEmpty ? null : openRows.oldestChangeMs;
      samples.add(
        'oldestOpenRow',
        { table },
        Math.max(0, steadyMs - (oldestMs ?? steadyMs)) / 1000,
      );
    }
    if (watch === null) return;
    for (const [verdict, count] of counts) samples.add('tables', { verdict }, count);
    for (const { table, rows, openedAtMs, certificate } of watch.incidents) {
      samples.add('incidents', { table, cause: certificate.cause }, 1);
      samples.add('incidentRows', { table }, rows);
      samples.add('incidentSince', { table }, openedAtMs / 1000);
    }
  }

  #oldestProofMs(table: TrackedTable, nowMs: number): number {
    const known = this.#proofs.get(table);
    if (known !== undefined && nowMs - known.atMs < PROOFS_FOR_MS) return known.oldestMs;
    const oldestMs = Math.min(...table.nodes.map((node) => table.leaves(node).oldestProofMs));
    this.#proofs.set(table, { atMs: nowMs, oldestMs });
    return oldestMs;
  }
}

function endedAtMs({ startedAt, tookMs }: Task): number {
  return Date.parse(startedAt) + tookMs;
}
