import { join } from 'node:path';
import { createLogger, type Logger } from '../base/log.js';
import { aborted, retryWhileLocked } from '../base/abort.js';
import { describeIgnored, type Config } from '../config/config.js';
import { loadConfig, loadSchedule } from '../config/load.js';
import type { Schedule } from '../config/schedule.js';
import type { Task } from '../protocol/tasks.js';
import { Scheduler } from '../schedule/scheduler.js';
import { AcedError, errorMessage, logMessage } from '../base/errors.js';
import type { LoadOptions } from '../config/load.js';
import { nativeUnavailableReason } from '../base/native.js';
import { Engine } from '../commands/engine.js';
import { Standby } from '../commands/standby.js';
import { VERSION } from '../commands/version.js';
import { Lease, type Reign } from '../lease/lease.js';
import type { CommandRunner } from '../protocol/commands.js';
import { serversOf } from '../protocol/servers.js';
import {
  listenForScrapes,
  type MetricsListener,
  type MetricsSource,
  type Observed,
} from '../server/metrics-listener.js';
import { Api } from '../server/api.js';
import { listenForApi } from '../server/api-listener.js';
import { ApiTasks } from '../server/api-tasks.js';
import { startServer, type RunningServer } from '../server/server.js';
import { Turns } from '../server/turns.js';
import { takeInheritedSocket } from '../server/socket.js';
import { reload } from './reload.js';
import { Service } from './service.js';
import { makeDirectory } from '../store/own-files.js';
import { cancelOnSignals } from './signals.js';
import { startWatchdog } from './watchdog.js';

const KILLED_EXIT_CODE = 1;
/** A supervisor starts it again: as a standby. */
const LOST_EXIT_CODE = 1;
/** Well below TimeoutStartSec of the systemd unit. */
const LOCK_WAIT_MS = 20_000;

/**
 * The daemon, until SIGTERM or SIGINT: then batches are finished, made durable and confirmed; a
 * second signal ends the process at once. Errors are those of a start that failed, and of the end.
 */
export async function serve(options: LoadOptions): Promise<void> {
  const stop = cancelOnSignals(KILLED_EXIT_CODE);
  try {
    await serveUntil(stop.signal, options);
  } finally {
    stop.release();
  }
}

async function serveUntil(stop: AbortSignal, options: LoadOptions): Promise<void> {
  const { config, ignored, misspelt } = await loadConfig(options);
  const log = createLogger(config.logLevel);
  let reloadSchedule = (): Promise<void> => Promise.resolve();
  let reloadApi = (): void => undefined;
  // Never taken off again: it must not end the daemon while that stops either.
  const service = new Service({ log });
  let reloading = Promise.resolve();
  process.on('SIGHUP', () => {
    reloading = reloading.then(() =>
      service.reloading(async () => {
        await reloadSchedule();
        reloadApi();
        await reload(config, options, log);
      }),
    );
  });
  for (const { source, key } of ignored) log.warn({ event: 'setting_ignored', source, key });
  const reason = nativeUnavailableReason();
  if (reason !== null) {
    log.warn(
      { event: 'native_unavailable', reason },
      'the addon cannot be loaded: JavaScript does its work, and is slower',
    );
  }
  const scrapes = await listenForMetrics(config);
  const listener = await listenForApi(config.api, log).catch(async (error: unknown) => {
    await scrapes?.close();
    throw error;
  });
  reloadApi = () => listener?.reload();
  const lease = config.standby === null ? null : openLease(config, config.standby, log);
  const standby = lease === null ? null : new Standby(config, lease);
  const watchdog = startWatchdog({ log });
  let engine: Engine | null = null;
  let observed: Observed | null = null;
  const frontOptions: FrontOptions = { log, engine: () => engine, observed: () => observed };
  let front: Front | null = null;
  let scheduler: Scheduler | null = null;
  try {
    let reign: Reign | null = null;
    if (lease !== null && standby !== null) {
      observed = { metrics: NO_METRICS, health: standby };
      scrapes?.serve(observed);
      front = await openFront(standby, config, frontOptions);
      log.info({ event: 'standby', ...about(config) }, 'waits for the lease');
      await service.ready(standby);
      reign = await Promise.race([lease.acquire(), aborted(stop)]);
    }
    if (!stop.aborted) {
      engine = await service.patiently(() =>
        openWhenUnlocked(config, { log, stop, reign, misspelt: misspelt.map(describeIgnored) }),
      );
      standby?.become(engine);
      front ??= await openFront(engine, config, frontOptions);
      observed = observedOf(engine);
      scrapes?.serve(observed);
      listener?.serve(front.api);
      log.info({ event: 'ready', ...about(config) });
      const jobs = (scheduler = startScheduler(engine, config, log));
      reloadSchedule = () => reloadJobs(jobs, options, log);
      if (standby === null) await service.ready(engine.health);
      await aborted(stop);
    }
    log.info({ event: 'stopping' });
    await Promise.all([service.stopping(), front?.server.close(), front?.tasks.stop()]);
  } finally {
    await scrapes?.close();
    await listener?.close();
    await front?.server.close();
    await scheduler?.stop();
    await service.patiently(async () => engine?.close());
    await lease?.release();
    await watchdog.stop();
  }
  log.info({ event: 'stopped' });
}

function about({ cluster, socketPath }: Config): Record<string, unknown> {
  return { cluster, socketPath, version: VERSION, pid: process.pid };
}

function openLease(
  { nodeSchema: schema, cluster }: Config,
  { database, name }: NonNullable<Config['standby']>,
  log: Logger,
): Lease {
  // At once: whatever else this process is about to say or write is no longer its to say.
  const onLost = (reason: string): void => {
    log.error({ event: 'lease_lost' }, reason);
    process.exit(LOST_EXIT_CODE);
  };
  return new Lease({ database, schema, cluster, instance: name, log, onLost });
}

/** What answers at the socket. */
interface Front {
  readonly server: RunningServer;
  readonly api: Api;
  readonly tasks: ApiTasks;
}

interface FrontOptions {
  readonly log: Logger;
  /** Null: not active yet. */
  readonly engine: () => Engine | null;
  readonly observed: () => Observed | null;
}

async function openFront(
  runner: CommandRunner,
  config: Config,
  { log, engine, observed }: FrontOptions,
): Promise<Front> {
  makeReportDir(config);
  const turns = new Turns(config.maxCommands);
  const { api, tasks } = openApi(runner, config, { turns, log, engine, observed });
  const server = await startServer({
    socketPath: config.socketPath,
    inheritedSocket: takeInheritedSocket(process.env),
    runner,
    spoolDir: join(config.stateDir, 'spool'),
    log,
    version: VERSION,
    turns,
    api,
    cluster: config.cluster,
    servers: serversOf(config.nodes),
    observed,
  });
  return { server, api, tasks };
}

/** A standby is alive, and has nothing to count. */
const NO_METRICS: MetricsSource = {
  contentType: 'text/plain; version=0.0.4; charset=utf-8',
  scrape: () => Promise.resolve(''),
};

function observedOf(engine: Engine): Observed {
  return { metrics: engine.metrics ?? NO_METRICS, health: engine.health };
}

/** ACE's routes, for the socket and the port. */
function openApi(
  runner: CommandRunner,
  { cluster, nodes, schedule: { reportDir } }: Config,
  { turns, log, engine }: FrontOptions & { readonly turns: Turns },
): { api: Api; tasks: ApiTasks } {
  const ended = (id: string): Task | null => engine()?.apiTask(id) ?? null;
  const tasks = new ApiTasks({ runner, turns, log, cluster, reportDir, ended });
  const databases = nodes.map(({ database }) => database);
  return { api: new Api({ tasks, of: { cluster, databases, reportDir }, log }), tasks };
}

/** Where jobs and ACE's routes write their files. Errors: BAD_CONFIG. */
function makeReportDir({ schedule: { reportDir } }: Config): void {
  try {
    makeDirectory(reportDir);
  } catch (error) {
    throw new AcedError(
      'BAD_CONFIG',
      `schedule.report_dir: cannot make ${reportDir}: ${errorMessage(error)}`,
      {
        hint: 'Check the directory above it, or set schedule.report_dir (ACED_SCHEDULE_REPORT_DIR) to another path.',
        cause: error,
      },
    );
  }
}

function startScheduler(engine: Engine, config: Config, log: Logger): Scheduler {
  const { reportDir } = config.schedule;
  const lastRun = (job: string): Task | null => engine.lastRun(job);
  const scheduler = new Scheduler({ runner: engine, log, reportDir, lastRun });
  engine.showJobs(() => scheduler.jobs);
  setJobs(scheduler, config.schedule, log);
  return scheduler;
}

function setJobs(scheduler: Scheduler, { jobs, left }: Schedule, log: Logger): void {
  for (const { job, reason } of left) log.warn({ event: 'job_left', job }, reason);
  scheduler.setJobs(jobs);
}

/** A file that is not well leaves the jobs as they are. */
async function reloadJobs(scheduler: Scheduler, options: LoadOptions, log: Logger): Promise<void> {
  try {
    setJobs(scheduler, await loadSchedule(options), log);
  } catch (error) {
    log.error({ event: 'schedule_refused' }, logMessage(error));
  }
}

/** Null: none is asked for. Errors: BAD_CONFIG. */
async function listenForMetrics({ metrics }: Config): Promise<MetricsListener | null> {
  return metrics.port === null ? null : listenForScrapes(metrics.host, metrics.port);
}

interface Opening {
  readonly misspelt: readonly string[];
  readonly log: Logger;
  readonly stop: AbortSignal;
  readonly reign: Reign | null;
}

/**
 * An acectl that found no daemon may be using the state for a moment: a restart must not fail for
 * that. Errors: those of Engine.open, CANCELLED.
 */
async function openWhenUnlocked(config: Config, { stop, ...options }: Opening): Promise<Engine> {
  const { stateDir } = config;
  return retryWhileLocked(() => Engine.open(config, { ...options, mode: 'daemon' }), {
    forMs: LOCK_WAIT_MS,
    signal: stop,
    onWait: () => options.log.info({ event: 'state_lock_waits', stateDir, forMs: LOCK_WAIT_MS }),
  });
}
