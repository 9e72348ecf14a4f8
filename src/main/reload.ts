import { isDeepStrictEqual } from 'node:util';
import { AcedError, errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Config } from '../config/config.js';
import { loadConfig, type LoadOptions } from '../config/load.js';

/** Its jobs are taken over at once, by whoever runs them. */
const SCHEDULE = 'schedule.';

/**
 * Reads the configuration again, as SIGHUP asks for: says which settings are others now, by name and
 * never with their values. They count from the next start on. A configuration that is wrong changes
 * nothing, and is told while the daemon still runs.
 */
export async function reload(config: Config, options: LoadOptions, log: Logger): Promise<void> {
  try {
    const { config: now } = await loadConfig(options);
    const changed = changedSettings(config, now).filter((name) => !name.startsWith(SCHEDULE));
    if (changed.length === 0) log.info({ event: 'reloaded' }, 'all settings are as they were');
    else log.warn({ event: 'restart_needed', settings: changed }, 'settings are read at the start');
  } catch (error) {
    const code = error instanceof AcedError ? error.code : 'INTERNAL';
    const hint = error instanceof AcedError ? error.hint : undefined;
    log.error({ event: 'reload_failed', code, hint }, errorMessage(error));
  }
}

/** Names such as `stream.flushIntervalMs`, as `acectl config show` has them. */
export function changedSettings(before: object, after: object, path = ''): string[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)]);
  return [...names].flatMap((name) => {
    const [a, b] = [valueOf(before, name), valueOf(after, name)];
    if (isDeepStrictEqual(a, b)) return [];
    const label = `${path}${name}`;
    return isGroup(a) && isGroup(b) ? changedSettings(a, b, `${label}.`) : [label];
  });
}

function valueOf(group: object, name: string): unknown {
  return Object.entries(group).find(([key]) => key === name)?.[1];
}

function isGroup(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
