import { join } from 'node:path';
import { createLogger, type Logger } from '../base/log.js';
import { aborted, retryWhileLocked } from '../base/abort.js';
import type { Config } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import type { LoadOptions } from '../config/load.js';
import { nativeUnavailableReason } from '../base/native.js';
import { Engine } from '../commands/engine.js';
import { VERSION } from '../commands/version.js';
import { serversOf } from '../protocol/servers.js';
import { listenForScrapes, type MetricsListener } from '../server/metrics-listener.js';
import { startServer } from '../server/server.js';
import { notifyServiceManager } from './notify.js';
import { cancelOnSignals } from './signals.js';
import { startWatchdog } from './watchdog.js';

const KILLED_EXIT_CODE = 1;
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
  const { config, ignored } = await loadConfig(options);
  const log = createLogger(config.logLevel);
  // Never taken off again: it must not end the daemon while that stops either.
  process.on('SIGHUP', () => {
    log.warn(
      { event: 'restart_needed', signal: 'SIGHUP' },
      'settings are read at the start: restart aced for changed ones',
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
  const engine = await openWhenUnlocked(config, { log, stop }).catch(async (error: unknown) => {
    await scrapes?.close();
    throw error;
  });
  const watchdog = startWatchdog({ log });
  const { metrics } = engine;
  try {
    const server = await startServer({
      socketPath: config.socketPath,
      runner: engine,
      spoolDir: join(config.stateDir, 'spool'),
      log,
      version: VERSION,
      cluster: config.cluster,
      servers: serversOf(config.nodes),
      ...(metrics === null ? {} : { metrics }),
    });
    if (metrics !== null) scrapes?.serve(metrics);
    const { cluster, socketPath } = config;
    log.info({ event: 'ready', cluster, socketPath, version: VERSION, pid: process.pid });
    if ((await notifyServiceManager(['READY=1'])) === 'failed') {
      log.warn({ event: 'notify_failed' }, 'systemd was not told that aced is ready');
    }
    await aborted(stop);
    log.info({ event: 'stopping' });
    await Promise.all([notifyServiceManager(['STOPPING=1']), server.close()]);
  } finally {
    await scrapes?.close();
    await engine.close();
    await watchdog.stop();
  }
  log.info({ event: 'stopped' });
}

/** Null: none is asked for. Errors: BAD_CONFIG. */
async function listenForMetrics({ metrics }: Config): Promise<MetricsListener | null> {
  return metrics.port === null ? null : listenForScrapes(metrics.host, metrics.port);
}

/**
 * An acectl that found no daemon may be using the state for a moment: a restart must not fail for
 * that. Errors: those of Engine.open, CANCELLED.
 */
async function openWhenUnlocked(
  config: Config,
  { log, stop }: { readonly log: Logger; readonly stop: AbortSignal },
): Promise<Engine> {
  const { stateDir } = config;
  return retryWhileLocked(() => Engine.open(config, { log, mode: 'daemon' }), {
    forMs: LOCK_WAIT_MS,
    signal: stop,
    onWait: () => log.info({ event: 'state_lock_waits', stateDir, forMs: LOCK_WAIT_MS }),
  });
}
