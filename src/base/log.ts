import { pino, type DestinationStream, type Logger } from 'pino';

export type { Logger };

/** pino JSON lines with ISO times; `event` names come from the caller and are stable. */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: describeError },
    hooks: { streamWrite: escapeControls },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** JSON leaves them as they are, and journald hands a line that holds one out as bytes. */
function escapeControls(line: string): string {
  return line.replace(
    /[\u007f-\u009f]/g,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
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
