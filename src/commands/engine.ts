import { steadyNowMs } from '../base/clock.js';
import { AcedError, logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Config } from '../config/config.js';
import type {
  CommandContext,
  CommandName,
  CommandOutcomes,
  CommandParams,
  CommandResults,
  CommandRunner,
  DiffResult,
  InitResult,
  RepairResult,
  TableDiffParams,
  TreeDiffParams,
} from '../protocol/commands.js';
import type { JobStatus, RepairAudit, Task } from '../protocol/tasks.js';
import { serversOf } from '../protocol/servers.js';
import { Canary } from '../drift/canary.js';
import { CoverageWatch } from '../drift/coverage-watch.js';
import { DriftEvents } from '../drift/drift-events.js';
import { EventFile } from '../drift/event-file.js';
import { DriftWatch } from '../drift/drift-watch.js';
import { build } from './build.js';
import { Cluster } from '../cluster/cluster.js';
import type { Inheritance } from '../cluster/handover.js';
import { CatalogWatch } from '../cluster/catalog-watch.js';
import { isDiff, logDiff, logFailedDiff } from './diff-log.js';
import { diffTable } from './diff-table.js';
import { diffTree } from './diff-tree.js';
import {
  acknowledge,
  listDrift,
  repairIncident,
  showIncident,
  watchDrift,
  type LiveDrift,
} from './drift.js';
import { initialise } from './init.js';
import { manyHandlers } from './many-commands.js';
import { nextLastDiff, saysOfWhole } from './last-diff.js';
import type { RecordedDiffs } from './many-tables.js';
import { rerunTable } from './rerun-table.js';
import { repair } from './repair.js';
import { logRepair } from './repair-audit.js';
import { NodeTreeWriter } from '../cluster/mirror-writer.js';
import { Refresher } from '../cluster/refresher.js';
import { ClusterHealth, type Health } from '../observe/health.js';
import { checkHooks, openHooks } from '../observe/hooks.js';
import { Metrics } from '../observe/metrics.js';
import { listNames } from './names.js';
import { readStatus } from './status.js';
import { readTop } from './top.js';
import { SubscriptionWatch } from '../cluster/subscription-watch.js';
import { examine } from './doctor.js';
import { replicationDiff } from './replication-diff.js';
import { structureDiff } from './structure-diff.js';
import { listTasks, recordTask, type EndedCommand } from './tasks.js';
import { teardown, teardownTable } from './teardown.js';
import { update } from './update.js';
import { verify } from './verify.js';
import type { Reign } from '../lease/lease.js';
import { VERSION } from './version.js';
import { Scrub } from '../cluster/scrub.js';
import { TableTracker } from '../cluster/table-tracker.js';
import { trackRule } from '../cluster/wanted-tables.js';
import { WalGuard } from '../cluster/wal-guard.js';

export interface EngineOptions {
  readonly log: Logger;
  /** `command`: lives for one command, so it streams only when the command needs it. */
  readonly mode: 'daemon' | 'command';
  /** Of the active one of several aced; null or absent: there is one. */
  readonly reign?: Reign | null;
  /** What the files say and nobody understands, for `status`; whoever runs one command tells it by itself. */
  readonly misspelt?: readonly string[];
}

/** Background work of the daemon. */
interface Background {
  stop(): Promise<void>;
}

type Handlers = {
  readonly [Name in CommandName]: (
    params: CommandParams[Name],
    context: CommandContext,
  ) => Promise<CommandOutcomes[Name]>;
};

/** Commands that work from the trees, hence from the streams. */
const NEEDS_STREAM: ReadonlySet<CommandName> = new Set<CommandName>([
  'mtree-build',
  'mtree-update',
  'mtree-verify',
  'mtree-table-diff',
  'mtree-teardown-table',
  'mtree-build-many',
  'mtree-update-many',
  'mtree-verify-many',
  'mtree-table-diff-many',
  'mtree-teardown-table-many',
]);

/** Blocks are cut alike on every node, and a slot is needed on each: no choice of nodes. */
const WHOLE_CLUSTER: ReadonlySet<CommandName> = new Set<CommandName>([
  'mtree-init',
  'mtree-build',
  'mtree-update',
  'mtree-teardown',
  'mtree-teardown-table',
  'mtree-build-many',
  'mtree-update-many',
  'mtree-teardown-table-many',
]);

/** Everything that aced can do, behind the socket or within one acectl process. */
export class Engine implements CommandRunner {
  readonly #cluster: Cluster;
  readonly #options: EngineOptions;
  readonly #startedAtMs = steadyNowMs();
  readonly #handlers: Handlers;
  #background: Background[] = [];
  /** Null: no daemon, or it does not judge its tables all the time. */
  #drift: LiveDrift | null = null;
  #watch: SubscriptionWatch | null = null;
  /** Null: no daemon. */
  #metrics: Metrics | null = null;
  #tracker: TableTracker | null = null;
  #jobs: () => readonly JobStatus[] = () => [];
  #health: Health | null = null;

  private constructor(config: Config, options: EngineOptions, inheritance: Inheritance) {
    this.#options = options;
    this.#cluster = new Cluster(config, options.log, {
      isJudging: options.mode === 'daemon' && config.drift.isEnabled,
      reign: options.reign ?? null,
      inheritance,
    });
    const cluster = this.#cluster;
    this.#handlers = {
      'mtree-init': (_, context) => this.#initialise(context),
      'mtree-build': (params, context) => build(cluster, params, context),
      'mtree-update': (params, context) => update(cluster, params, context),
      'mtree-verify': (params, context) => verify(cluster, params, context),
      'mtree-table-diff': async (params, context) =>
        this.#remember(params, await diffTree(cluster, params, context)),
      ...manyHandlers(cluster, this.#recordedDiffs()),
      'mtree-teardown': () => teardown(cluster),
      'mtree-teardown-table': (params) => this.#teardownTable(params.table),
      'table-diff': async (params, context) =>
        this.#remember(params, await diffTable(cluster, params, context)),
      'replication-diff': (params, context) => replicationDiff(cluster, params, context),
      doctor: (params, context) => examine(cluster, params, context),
      tasks: (params) => Promise.resolve(listTasks(cluster, params, this.#jobs())),
      'structure-diff': (params, context) => structureDiff(cluster, params, context),
      'table-rerun': (params, context) => rerunTable(cluster, params, context),
      'table-repair': async (params, context) => {
        const result = await repair(cluster, params, context);
        if (!result.dryRun) this.#drift?.watch.repaired(result.table);
        return this.#countRepair(result);
      },
      'drift-list': () =>
        this.#withDrift((live) => listDrift(cluster, live, this.#tracker?.notFollowed ?? [])),
      'drift-show': (params) => this.#withDrift((live) => showIncident(live, params)),
      'drift-canary': (_, context) => this.#withDrift((live) => live.canary.run(context)),
      'drift-ack': (params) => this.#withDrift((live) => acknowledge(live, params)),
      'drift-watch': (_, context) => this.#withDrift((live) => watchDrift(cluster, live, context)),
      'drift-repair': async (params, context) =>
        this.#countRepair(
          await this.#withDrift((live) => repairIncident(cluster, live, { params, context })),
        ),
      names: (_, context) => listNames(cluster, this.#drift?.watch.incidents ?? [], context.signal),
      top: (params, context) =>
        readTop(cluster, params, {
          nodes: cluster.selectNodes(params.nodes, 1),
          signal: context.signal,
          isDaemon: options.mode === 'daemon',
          live: this.#drift,
          notFollowed: this.#tracker?.notFollowed ?? [],
          startedAtMs: this.#startedAtMs,
          subscriptions: this.#watch?.subscriptions ?? [],
        }),
      status: (params, context) =>
        readStatus(cluster, {
          nodes: cluster.selectNodes(params.nodes, 1),
          signal: context.signal,
          isDaemon: options.mode === 'daemon',
          watch: this.#drift?.watch ?? null,
          startedAtMs: this.#startedAtMs,
          subscriptions: this.#watch?.subscriptions ?? [],
          misspelt: options.misspelt ?? [],
        }),
    };
  }

  /** Locks the state directory. A daemon of an initialised cluster starts streaming at once. */
  static async open(config: Config, options: EngineOptions): Promise<Engine> {
    // Before anything is opened: what is wrong there is refused.
    trackRule(config);
    checkHooks(config);
    const inheritance = (await options.reign?.readHandover()) ?? new Map<string, string>();
    const engine = new Engine(config, options, inheritance);
    if (options.mode === 'daemon') {
      engine.#warnOfRemovedNodes();
      const walGuard = new WalGuard(engine.#cluster);
      if (engine.#cluster.store.isInitialised()) engine.#cluster.startStreaming();
      engine.#background = [
        new Refresher(engine.#cluster),
        new CatalogWatch(engine.#cluster),
        NodeTreeWriter.start(engine.#cluster),
        walGuard,
        new Scrub(engine.#cluster),
        (engine.#watch = new SubscriptionWatch(engine.#cluster)),
        (engine.#tracker = new TableTracker(engine.#cluster)),
      ];
      const events = engine.#tellEvents();
      for (const hook of openHooks(config, options.log)) {
        events.listen((event) => hook.tell(event));
        engine.#background.push(hook);
      }
      engine.#metrics = new Metrics({
        cluster: engine.#cluster,
        watch: engine.#drift?.watch ?? null,
        events,
        walGuard,
        version: VERSION,
        jobs: () => engine.#jobs(),
        canaryFoundAtMs: () => engine.#drift?.canary.foundAtMs ?? null,
      });
    }
    return engine;
  }

  get health(): Health {
    return (this.#health ??= new ClusterHealth(this.#cluster, this.#drift?.watch ?? null));
  }

  /** What Prometheus reads; null: no daemon. */
  get metrics(): Metrics | null {
    return this.#metrics;
  }

  async run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    context: CommandContext,
  ): Promise<CommandResults[Name]> {
    const cluster = this.#cluster;
    const { job, api } = context;
    const startedAtMs = steadyNowMs();
    const command = { name, params, job, api, startedAt: new Date(), startedAtMs };
    const audited: { audit: RepairAudit | null } = { audit: null };
    const onAudit = (audit: RepairAudit): void => {
      audited.audit = audit;
    };
    const answer = this.#execute(name, params, { ...context, onAudit });
    const outcome = await this.#handedOver(answer).catch((error: unknown) => {
      this.#commandEnded({ ...command, ...audited, ended: { error } });
      if (isDiff(name)) logFailedDiff(this.#options.log, params, error);
      throw error;
    });
    this.#commandEnded({ ...command, ...audited, ended: { outcome } });
    if ('verdict' in outcome) logDiff(this.#options.log, outcome);
    // An outcome with its servers is the command's result; the compiler cannot see it through Name.
    return { ...outcome, servers: serversOf(cluster.config.nodes) } as CommandResults[Name];
  }

  async #execute<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    context: CommandContext,
  ): Promise<CommandOutcomes[Name]> {
    const cluster = this.#cluster;
    cluster.reign?.require();
    this.#refuseBeside(name);
    if (WHOLE_CLUSTER.has(name)) cluster.requireAllNodes(params.nodes);
    if (NEEDS_STREAM.has(name) && cluster.store.isInitialised()) cluster.startStreaming();
    return this.#handlers[name](params, context);
  }

  /** Nobody is told what an aced would not know that takes over now. */
  async #handedOver<T>(answer: Promise<T>): Promise<T> {
    const { reign, handover } = this.#cluster;
    const outcome = await answer;
    await handover?.settled();
    reign?.require();
    return outcome;
  }

  #commandEnded(command: EndedCommand): void {
    const outcome = recordTask(this.#cluster, command);
    if (command.audit !== null)
      logRepair(this.#options.log, command.audit, { ...command, outcome });
    this.#metrics?.commandEnded(command.name, 'error' in command.ended ? outcome : 'done');
    if (command.job !== undefined) this.#metrics?.jobEnded(command.job, outcome);
  }

  /** The last run of a scheduled job; null: none is known. */
  lastRun(job: string): Task | null {
    return this.#cluster.store.tasks.last(job);
  }

  /** What was asked for over ACE's routes and has ended; null: there is none with this id. */
  apiTask(id: string): Task | null {
    return this.#cluster.store.tasks.ofApi(id);
  }

  /** Whom `tasks` asks for the scheduled jobs. */
  showJobs(jobs: () => readonly JobStatus[]): void {
    this.#jobs = jobs;
  }

  async #teardownTable(table: string): Promise<InitResult> {
    this.#refuseWanted(table);
    return teardownTable(this.#cluster, table);
  }

  /** The slots are the active one's. */
  #refuseBeside(name: CommandName): void {
    const isStandalone = this.#options.mode === 'daemon' || this.#cluster.config.standby === null;
    if (isStandalone || !(NEEDS_STREAM.has(name) || WHOLE_CLUSTER.has(name))) return;
    throw new AcedError('STANDBY', 'the trees of this cluster are those of its active aced', {
      hint: 'Ask that one, on its host or with ACED_SOCKET.',
    });
  }

  /** The daemon would build its tree again at once. */
  #refuseWanted(table: string): void {
    const spec = this.#cluster.findTable(table)?.spec;
    if (spec === undefined || this.#tracker?.wants(spec) !== true) return;
    throw new AcedError('UNSUPPORTED', `${table} is followed because the option track names it`, {
      hint: 'Add it to track.exclude and restart aced: it is not followed any more then.',
    });
  }

  async #initialise(context: CommandContext): Promise<InitResult> {
    const result = await initialise(this.#cluster, context);
    if (this.#options.mode === 'command') {
      const message =
        'No aced is running: until one is, or mtree teardown, the slots hold back write-ahead log on every node';
      context.emit({ type: 'log', level: 'warn', message });
    }
    return result;
  }

  #countRepair<Result extends RepairResult>(result: Result): Result {
    if (!result.dryRun) this.#metrics?.repaired(result.table, result.nodes);
    return result;
  }

  /** What is told goes through one object; whether tables are judged all the time is an option. */
  #tellEvents(): DriftEvents {
    const { config, log, store } = this.#cluster;
    const [first] = config.nodes;
    const { eventsFile } = config.drift;
    const file = eventsFile === null ? null : new EventFile(eventsFile, log);
    const events = new DriftEvents({
      store,
      log,
      conditions: this.#cluster.conditions,
      handover: this.#cluster.handover,
      scope: {
        cluster: config.cluster,
        database: first?.database ?? '',
        nodes: config.nodes.map(({ name }) => name),
        hasKeys: config.drift.eventsHaveKeys,
        epoch: this.#cluster.reign?.epoch ?? null,
      },
      copy: file === null ? null : (event, isMilestone) => file.append(event, isMilestone),
    });
    this.#background.push(new CoverageWatch(this.#cluster));
    if (!config.drift.isEnabled) return events;
    const watch = new DriftWatch(this.#cluster, events);
    this.#background.push(watch);
    const canary = new Canary(this.#cluster, watch);
    this.#background.push(canary);
    this.#drift = { watch, events, canary };
    return events;
  }

  async #withDrift<T>(work: (live: LiveDrift) => T | Promise<T>): Promise<T> {
    if (this.#drift !== null) return work(this.#drift);
    const { cluster } = this.#cluster.config;
    throw this.#options.mode === 'daemon'
      ? new AcedError('UNSUPPORTED', 'this aced does not judge its tables all the time', {
          hint: 'Set drift.enabled (ACED_DRIFT_ENABLED) to true and restart it.',
        })
      : new AcedError('DAEMON_UNREACHABLE', `no aced is running for cluster ${cluster}`, {
          hint: `Only a daemon knows drift as it arises; start aced --cluster ${cluster}, or run a diff.`,
        });
  }

  /** The diffs of many tables, each remembered and logged as if it had been asked for alone. */
  #recordedDiffs(): RecordedDiffs {
    const { log } = this.#options;
    const recorded =
      <Params extends TableDiffParams | TreeDiffParams>(
        diff: (cluster: Cluster, params: Params, context: CommandContext) => Promise<DiffResult>,
      ) =>
      (params: Params, context: CommandContext): Promise<DiffResult> =>
        diff(this.#cluster, params, context).then(
          (result) => {
            logDiff(log, result);
            return this.#remember(params, result);
          },
          (error: unknown) => {
            logFailedDiff(log, params, error);
            throw error;
          },
        );
    return {
      tableDiff: recorded(diffTable),
      treeDiff: recorded(diffTree),
      teardown: (table) => this.#teardownTable(table),
      record: (results) => {
        for (const result of results) logDiff(log, result);
        this.#rememberAll(results);
      },
    };
  }

  /** For `status`, when the diff was of all nodes. Logged where the diff ran. */
  #remember(params: TableDiffParams, result: DiffResult): DiffResult {
    if (saysOfWhole(params, result)) this.#rememberAll([result]);
    return result;
  }

  #rememberAll(results: readonly DiffResult[]): void {
    const { config, store } = this.#cluster;
    const at = new Date().toISOString();
    const byLabel = new Map(this.#cluster.tables.map((table) => [table.label, table]));
    store.saveLastDiffs(
      results.flatMap((result) => {
        const isOfAll = result.nodes.length === config.nodes.length;
        const tracked = isOfAll ? byLabel.get(result.table) : undefined;
        if (tracked === undefined) return [];
        const { schema, name } = tracked.spec;
        const diff = nextLastDiff(result, tracked.spec, store.lastDiff(schema, name));
        return diff === null ? [] : [{ schema, name, at, ...diff }];
      }),
    );
  }

  /** Nobody reads or watches the slot of a node that has left the definition. */
  #warnOfRemovedNodes(): void {
    const { config, log, tables } = this.#cluster;
    const known = new Set(config.nodes.map(({ name }) => name));
    const followed = new Set(tables.flatMap(({ readings }) => Object.keys(readings)));
    for (const node of followed) {
      if (known.has(node)) continue;
      log.warn(
        { event: 'node_removed', node },
        `no longer in the cluster definition; drop the slot ${config.slotName} there, it holds back write-ahead log`,
      );
    }
  }

  /** Finishes the batches, makes them durable, confirms them, and lets go of everything. */
  async close(): Promise<void> {
    for (const work of this.#background) await work.stop();
    if (this.#options.mode === 'command' && this.#cluster.isStreaming) {
      await new NodeTreeWriter(this.#cluster).writeOnce().catch((error: unknown) => {
        this.#options.log.warn({ event: 'node_tree_failed' }, logMessage(error));
      });
    }
    await this.#cluster.close();
  }
}
