import type { Cluster } from '../cluster/cluster.js';
import type { DriftWatch } from '../drift/drift-watch.js';
import type { NodePipeline } from '../ingest/pipeline.js';
import type { PipelineState } from '../ingest/pipeline-state.js';

export interface HealthReport {
  /** For people: one line. */
  readonly status: string;
  /** What only another start of the process would mend; empty: it is alive. */
  readonly problems: readonly string[];
}

export interface Health {
  check(nowMs: number): HealthReport;
}

/** What is applied becomes durable within seconds, or the pipeline says that it cannot be stored. */
const COMMIT_MS = 60_000;
/** A stream that was lost is tried again every 15 s at most. */
const RETRY_MS = 120_000;

interface Seen {
  readonly state: PipelineState;
  readonly stateSinceMs: number;
  readonly durable: bigint | null;
  /** Since when something is applied and no batch has become durable; null: all is. */
  readonly unsavedSinceMs: number | null;
}

/**
 * Whether the daemon is alive. A node that is down, a full disk, a slot that is being made: all that
 * is known, told and tried again is alive, since another start would mend none of it. Not alive is a
 * pipeline that has stopped trying, or one that streams and makes nothing durable without saying why.
 */
export class ClusterHealth implements Health {
  readonly #cluster: Cluster;
  readonly #watch: DriftWatch | null;
  readonly #streams = new StreamHealth();

  constructor(cluster: Cluster, watch: DriftWatch | null) {
    this.#cluster = cluster;
    this.#watch = watch;
  }

  /** @param nowMs of a clock that never goes back */
  check(nowMs: number): HealthReport {
    const { pipelines, tables, config } = this.#cluster;
    const streaming = [...pipelines.values()].filter(({ state }) => state.kind === 'streaming');
    const incidents = this.#watch?.incidents.length ?? 0;
    const parts = [
      `${streaming.length}/${config.nodes.length} streaming`,
      counted(tables.length, 'table'),
      ...(this.#watch === null ? [] : [counted(incidents, 'incident')]),
    ];
    return { status: parts.join(', '), problems: this.#streams.check(pipelines, nowMs) };
  }
}

/** What of a pipeline tells whether it is alive. */
export type StreamSigns = Pick<NodePipeline, 'state' | 'position' | 'durablePosition'>;

/** Whether the pipelines are alive, from one look to the next. */
export class StreamHealth {
  readonly #seen = new Map<string, Seen>();

  check(pipelines: ReadonlyMap<string, StreamSigns>, nowMs: number): string[] {
    return Array.from(pipelines).flatMap(([node, pipeline]) => {
      const seen = look(pipeline, this.#seen.get(node), nowMs);
      this.#seen.set(node, seen);
      const problem = problemOf(seen, nowMs);
      return problem === null ? [] : [`the stream of ${node} ${problem}`];
    });
  }
}

function look(pipeline: StreamSigns, before: Seen | undefined, nowMs: number): Seen {
  const { state, position, durablePosition: durable } = pipeline;
  const isSameState = before?.state === state;
  const isSaved = durable === null || durable === position || state.kind !== 'streaming';
  const isStill = isSameState && before.durable === durable;
  return {
    state,
    stateSinceMs: isSameState ? before.stateSinceMs : nowMs,
    durable,
    unsavedSinceMs: isSaved ? null : ((isStill ? before.unsavedSinceMs : null) ?? nowMs),
  };
}

function problemOf({ state, stateSinceMs, unsavedSinceMs }: Seen, nowMs: number): string | null {
  if (state.kind === 'waiting' && nowMs - stateSinceMs > RETRY_MS) return 'is not tried again';
  if (unsavedSinceMs !== null && nowMs - unsavedSinceMs > COMMIT_MS) return 'makes nothing durable';
  return null;
}

function counted(count: number, what: string): string {
  return count === 1 ? `1 ${what}` : `${count} ${what}s`;
}
