import type { Rhythm } from '../protocol/tasks.js';

/** Windows as they were written: `08:00-20:00`, `mon-fri 22:00-06:00`. */
export type Blackout = Required<Rhythm>['notBetween'];

interface Window {
  /** Those on which it begins; 0: Monday. */
  readonly days: readonly number[];
  /** Minutes since midnight; `to` is not in it, and is less than `from` over midnight. */
  readonly from: number;
  readonly to: number;
}

const DAYS = ['mon', 'tue', 'wed', 'thu', 'fri', 'sat', 'sun'];
const WINDOW = /^(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d\d):(\d\d)-(\d\d):(\d\d)$/i;
const MINUTE_MS = 60_000;
const DAY_MINUTES = 24 * 60;
/** What is covered for so long is covered for ever: windows come again every week. */
const SEARCH_MINUTES = 8 * DAY_MINUTES;

/** Errors: RangeError naming the window or the time zone. */
export function checkBlackout({ windows, timeZone }: Blackout): void {
  for (const text of windows) readWindow(text);
  clockOf(timeZone);
}

/** The first time from `atMs` on that is in none of the windows (ms since 1970); null: there is none. */
export function firstOutside(blackout: Blackout, atMs: number): number | null {
  const windows = blackout.windows.map(readWindow);
  const clock = clockOf(blackout.timeZone);
  let timeMs = atMs;
  for (let i = 0; i < SEARCH_MINUTES; i += 1) {
    const { day, minute } = clock(timeMs);
    if (!windows.some((window) => isWithin(window, day, minute))) return timeMs;
    // Time zones differ by whole minutes.
    timeMs = (Math.floor(timeMs / MINUTE_MS) + 1) * MINUTE_MS;
  }
  return null;
}

function isWithin({ days, from, to }: Window, day: number, minute: number): boolean {
  if (from < to) return days.includes(day) && minute >= from && minute < to;
  const yesterday = (day + DAYS.length - 1) % DAYS.length;
  return (days.includes(day) && minute >= from) || (days.includes(yesterday) && minute < to);
}

function readWindow(text: string): Window {
  const [, first, last, ...times] = WINDOW.exec(text.trim()) ?? [];
  const [fromHour = 99, fromMinute = 99, toHour = 99, toMinute = 99] = times.map(Number);
  const [from, to] = [fromHour * 60 + fromMinute, toHour * 60 + toMinute];
  const days = daysOf(first, last);
  const isTime = from < DAY_MINUTES && to <= DAY_MINUTES && fromMinute < 60 && toMinute < 60;
  if (days.length === 0 || !isTime || from === to) {
    throw new RangeError(
      `not_between ${JSON.stringify(text)} is not as 08:00-20:00 or mon-fri 22:00-06:00`,
    );
  }
  return { days, from, to };
}

/** Empty: there is no such day. */
function daysOf(first: string | undefined, last: string | undefined): number[] {
  if (first === undefined) return DAYS.map((_, day) => day);
  const from = DAYS.indexOf(first.toLowerCase());
  const to = last === undefined ? from : DAYS.indexOf(last.toLowerCase());
  if (from < 0 || to < 0) return [];
  const count = ((to - from + DAYS.length) % DAYS.length) + 1;
  return Array.from({ length: count }, (_, i) => (from + i) % DAYS.length);
}

function clockOf(timeZone: string | null): (timeMs: number) => { day: number; minute: number } {
  const format = new Intl.DateTimeFormat('en-US', {
    ...{ weekday: 'short', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' },
    ...(timeZone === null ? {} : { timeZone }),
  });
  return (timeMs) => {
    const parts = new Map(format.formatToParts(timeMs).map(({ type, value }) => [type, value]));
    const minute = Number(parts.get('hour')) * 60 + Number(parts.get('minute'));
    return { day: DAYS.indexOf((parts.get('weekday') ?? '').toLowerCase()), minute };
  };
}
