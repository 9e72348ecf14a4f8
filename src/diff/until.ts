import { AcedError } from '../base/errors.js';
import type { DriftedRow } from './settle.js';

/** RFC 3339, with a time zone. */
const RFC_3339 = /^(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)$/;

/** Microseconds since 1970 of `--until`. Errors: BAD_USAGE. */
export function parseUntil(text: string): bigint {
  const micros = microsOf(text);
  if (micros !== null) return micros;
  throw new AcedError('BAD_USAGE', `--until ${text} is not a time`, {
    hint: 'Write it as RFC 3339 with a time zone, as in 2026-11-28T04:00:00Z.',
  });
}

/** Some node's row was written after that moment, as far as commit times are known. */
export function isNewer({ rows }: DriftedRow, untilMicros: bigint): boolean {
  return rows.some((row) => {
    // As PostgreSQL writes it under the pinned time zone: 2026-11-28 04:00:00.123456+00
    const micros = row?.commitTs == null ? null : microsOf(`${row.commitTs}:00`);
    return micros !== null && micros > untilMicros;
  });
}

function microsOf(text: string): bigint | null {
  const [, date, time, fraction = '', zone = ''] = RFC_3339.exec(text) ?? [];
  if (date === undefined || time === undefined) return null;
  const ms = Date.parse(`${date}T${time}${zone.toUpperCase()}`);
  if (Number.isNaN(ms)) return null;
  return BigInt(ms) * 1_000n + BigInt(fraction.padEnd(6, '0').slice(0, 6));
}
