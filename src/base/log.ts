import { fstatSync } from 'node:fs';
import { pino, type DestinationStream, type Logger } from 'pino';
import { escapeControls } from './escape-controls.js';

export type { Logger };

/** pino JSON lines with ISO times; `event` names come from the caller and are stable. */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: describeError },
    hooks: {
      streamWrite:
        destination === undefined && isJournal()
          ? (line: string) => `${priorityOf(line)}${escapeControls(line)}`
          : escapeControls,
    },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** sd-daemon(3): the journal takes a line without such a prefix for `info`, errors too. */
const PRIORITIES: Readonly<Record<string, number>> = {
  fatal: 2,
  error: 3,
  warn: 4,
  info: 6,
  debug: 7,
  trace: 7,
};

/** systemd.exec(5): the variable is inherited, so that only the file itself tells. */
function isJournal(): boolean {
  const stream = process.env['JOURNAL_STREAM'];
  if (stream === undefined) return false;
  try {
    const { dev, ino } = fstatSync(process.stdout.fd);
    return stream === `${dev}:${ino}`;
  } catch {
    // Stdout is closed: nobody reads a prefix.
    return false;
  }
}

function priorityOf(line: string): string {
  const level = /^\{"level":"(\w+)"/.exec(line)?.[1] ?? 'info';
  return `<${PRIORITIES[level] ?? 6}>`;
}

/** pino's own takes every property along: a server's error has row values in its detail. */
function describeError(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { message: String(error) };
  return { type: error.name, message: error.message, stack: error.stack };
}

/** For tests and for the in-process engine, whose messages go to the person instead. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
