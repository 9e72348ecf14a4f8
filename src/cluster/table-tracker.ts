import { steadyNowMs } from '../base/clock.js';
import { Backoff } from '../base/backoff.js';
import { AcedError, logMessage, type ErrorCode } from '../base/errors.js';
import { removeTree } from '../mirror/mirror-tables.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext } from '../protocol/commands.js';
import type { Condition, ConditionKind } from '../protocol/drift.js';
import type { TableName } from '../table/table-name.js';
import type { Cluster } from './cluster.js';
import { configuredColumns } from './left-out-columns.js';
import { Loop, tellsFailures } from '../base/loop.js';
import { buildTree, workOptions } from './tree-building.js';
import { unpublish } from './unpublish.js';
import {
  readNodeTables,
  trackRule,
  wantedTables,
  type TrackRule,
  type Wanted,
  type WantedTable,
} from './wanted-tables.js';

const IDLE_MS = 60_000;
const BACKOFF = { firstMs: 1_000, maxMs: 5_000 };
/** However long a build took, the next one begins after so long. */
const MAX_REST_MS = 60_000;
/** A table that cannot be built is tried again after so long, and at once when its definition has changed. */
const REFUSED_BACKOFF = { firstMs: 5_000, maxMs: 300_000 };
const WAITING_GRACE_MS = 10_000;
/** Patterns are read at the start, when the tables may still have to be made. */
const MISSING_GRACE_MS = 2_000;

/** Why a table that should be followed is not. */
export interface NotFollowed extends TableName {
  readonly label: string;
  readonly kind: Extract<ConditionKind, 'schema_mismatch' | 'coverage'>;
  readonly reason: string;
  readonly sinceMs: number;
}

interface Refusal extends NotFollowed {
  readonly identity: string;
  readonly backoff: Backoff;
}

/**
 * Follows the tables that the options name, as they come and go: builds their trees, one at a time,
 * and lets go of what it followed by itself when it is gone on every node or no longer named. What
 * cannot be followed is reported, and tried again.
 */
export class TableTracker {
  readonly #cluster: Cluster;
  readonly #rule: TrackRule | null;
  readonly #refused = new Map<string, Refusal>();
  readonly #waiting = new Map<string, NotFollowed>();
  #wanted: Wanted = { tables: [], missing: [] };
  #buildAtMs = 0;
  readonly #loop: Loop;

  /** Errors: those of trackRule(). */
  constructor(cluster: Cluster) {
    this.#cluster = cluster;
    this.#rule = trackRule(cluster.config);
    this.#loop = Loop.start({
      ...tellsFailures(cluster.log, 'track_failed'),
      backoff: BACKOFF,
      round: (signal) => this.#round(signal),
    });
  }

  async stop(): Promise<void> {
    await this.#loop.stop();
  }

  /** Tables that should be followed and have no tree, with the reason. */
  get notFollowed(): readonly NotFollowed[] {
    return [...this.#refused.values(), ...this.#waiting.values()];
  }

  /** Whether the options name the table: it would be built again at once. */
  wants({ schema, name }: TableName): boolean {
    return this.#wanted.tables.some((one) => one.schema === schema && one.name === name);
  }

  async #round(signal: AbortSignal): Promise<number> {
    const { config, isStreaming } = this.#cluster;
    const rule = this.#rule;
    if (rule === null) {
      this.#report();
      return IDLE_MS;
    }
    const { intervalMs } = config.track;
    if (!isStreaming) return intervalMs;
    try {
      const perNode = await readNodeTables(
        this.#cluster.pools,
        { rule, nodeSchema: config.nodeSchema },
        signal,
      );
      this.#wanted = wantedTables(rule, perNode);
    } catch (error) {
      signal.throwIfAborted();
      // A node that is down is told by its stream; without it nobody knows what it has.
      if (error instanceof AcedError && error.code === 'NODE_UNREACHABLE') return intervalMs;
      throw error;
    }
    await this.#letGo(signal);
    const next = this.#findNext();
    this.#report();
    if (next === null) return intervalMs;
    const startedAtMs = steadyNowMs();
    await this.#follow(next, signal);
    this.#report();
    const restMs = (steadyNowMs() - startedAtMs) * (1 / config.track.budget - 1);
    this.#buildAtMs = steadyNowMs() + Math.min(MAX_REST_MS, restMs);
    return Math.min(intervalMs, restMs);
  }

  /** What was followed because it was named, and is so no longer. */
  async #letGo(signal: AbortSignal): Promise<void> {
    const { config, log, store } = this.#cluster;
    for (const table of this.#cluster.tables) {
      const { schema, name } = table.spec;
      if (!store.kept.isAutoTable(schema, name) || this.wants({ schema, name })) continue;
      await this.#cluster.mutex(schema, name).run(async () => {
        await onEveryNode(this.#cluster.pools, signal, (_, pool, either) =>
          pool.use(async (session) => {
            await unpublish(session, this.#cluster, table);
            await removeTree(session, config.nodeSchema, table.label);
          }, either),
        );
        this.#cluster.untrackTable(schema, name);
        store.kept.removeAutoTable(schema, name);
      });
      const why = 'it is gone, or no pattern names it any more';
      log.info({ event: 'table_let_go', table: table.label }, why);
    }
  }

  /** The table whose turn it is to be built; brings what waits and what is refused up to date. */
  #findNext(): WantedTable | null {
    const nowMs = Date.now();
    const names = this.#cluster.config.nodes.map(({ name }) => name);
    const labels = new Set(this.#wanted.tables.map(({ label }) => label));
    for (const known of [this.#refused, this.#waiting]) {
      for (const label of known.keys()) if (!labels.has(label)) known.delete(label);
    }
    let next: WantedTable | null = null;
    for (const table of this.#wanted.tables) {
      const { label, schema, name, identity } = table;
      const tree = this.#cluster.trackedTable(schema, name);
      if (tree !== undefined && tree.state !== 'failed') {
        this.#refused.delete(label);
        this.#waiting.delete(label);
        continue;
      }
      const absent = names.filter((node) => !table.nodes.includes(node));
      if (absent.length > 0) {
        this.#refuse(table, {
          code: 'NO_SUCH_TABLE',
          reason: `there is no such table on ${absent.join(', ')}`,
        });
        continue;
      }
      const refusal = this.#refused.get(label);
      const mustWait = refusal?.identity === identity && refusal.backoff.isResting;
      if (refusal === undefined) this.#wait(table, nowMs);
      if (mustWait || this.#cluster.mutex(schema, name).isBusy) continue;
      next ??= table;
    }
    return steadyNowMs() < this.#buildAtMs ? null : next;
  }

  async #follow(table: WantedTable, signal: AbortSignal): Promise<void> {
    const cluster = this.#cluster;
    const { schema, name, label } = table;
    const context = this.#context(signal);
    try {
      await cluster.mutex(schema, name).run(async () => {
        const tree = cluster.trackedTable(schema, name);
        // Somebody has built it meanwhile.
        if (tree !== undefined && tree.state !== 'failed') return;
        cluster.store.kept.addAutoTable(schema, name);
        await buildTree(cluster, table, {
          leftOut: configuredColumns(cluster.config, table),
          blockRows: tree?.blockRows ?? cluster.config.tree.blockRows,
          work: { ...workOptions(cluster, undefined, context), concurrency: 1 },
          context,
        });
        cluster.log.info({ event: 'table_followed', table: label }, 'its tree was built');
      });
      this.#refused.delete(label);
      this.#waiting.delete(label);
    } catch (error) {
      signal.throwIfAborted();
      const code = error instanceof AcedError ? error.code : 'INTERNAL';
      this.#refuse(table, { code, reason: logMessage(error) });
    }
  }

  #refuse(table: WantedTable, { code, reason }: { code: ErrorCode; reason: string }): void {
    const { schema, name, label, identity } = table;
    const before = this.#refused.get(label);
    const backoff = before?.identity === identity ? before.backoff : new Backoff(REFUSED_BACKOFF);
    backoff.failed();
    this.#waiting.delete(label);
    this.#refused.set(label, {
      schema,
      name,
      label,
      identity,
      backoff,
      kind: code === 'SCHEMA_MISMATCH' || code === 'NO_SUCH_TABLE' ? 'schema_mismatch' : 'coverage',
      reason,
      sinceMs: before?.sinceMs ?? Date.now(),
    });
  }

  #wait({ schema, name, label }: WantedTable, nowMs: number): void {
    if (this.#waiting.has(label)) return;
    const reason = 'its tree waits to be built';
    this.#waiting.set(label, { schema, name, label, kind: 'coverage', reason, sinceMs: nowMs });
  }

  #report(): void {
    const { conditions } = this.#cluster;
    const nowMs = Date.now();
    const refused = [...this.#refused.values()]
      // What is wrong with a tree is told as that.
      .filter(({ schema, name }) => this.#cluster.trackedTable(schema, name) === undefined)
      .map(({ label, kind, reason }): Condition => ({
        kind,
        about: 'table',
        subject: label,
        reason: `it cannot be followed: ${reason}`,
        facts: { table: label },
      }));
    conditions.report('tracking', refused, { nowMs });
    const { missing } = this.#wanted;
    conditions.report('track options', missing, { nowMs, graceMs: MISSING_GRACE_MS });
    const waiting = this.#waiting.size;
    const backlog: Condition[] =
      waiting === 0
        ? []
        : [
            {
              kind: 'coverage',
              about: 'pattern',
              subject: 'track',
              reason: 'tables wait for their first tree',
              facts: { waiting },
            },
          ];
    conditions.report('track backlog', backlog, { nowMs, graceMs: WAITING_GRACE_MS });
  }

  #context(signal: AbortSignal): CommandContext {
    return {
      signal,
      reportDir: this.#cluster.config.stateDir,
      emit: (event) => {
        if (event.type === 'log') this.#cluster.log.info({ event: 'track' }, event.message);
      },
    };
  }
}
