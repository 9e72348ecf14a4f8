import { pino, type DestinationStream, type Logger } from 'pino';

export type { Logger };

/** pino JSON lines with ISO times; `event` names come from the caller and are stable. */
export function createLogger(level: string, destination?: DestinationStream): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

/** For tests and for the in-process engine, whose messages go to the person instead. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}
