export const EXIT_DONE = 0;
export const EXIT_DIFFERENT = 1;
export const EXIT_TROUBLE = 2;

export interface OutcomeLine {
  /** `plain` has no label. */
  readonly level: 'info' | 'warn' | 'plain';
  readonly text: string;
}

/** What a person is told of a result, and the process's exit code. */
export interface Outcome {
  readonly lines: readonly OutcomeLine[];
  readonly exitCode: number;
}

export const info = (text: string): OutcomeLine => ({ level: 'info', text });
export const warn = (text: string): OutcomeLine => ({ level: 'warn', text });
export const plain = (text: string): OutcomeLine => ({ level: 'plain', text });

/** How long ago, for people. */
export function age(atMs: number): string {
  return span(Date.now() - atMs);
}

/** How long, for people. */
export function span(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
}

export function bytes(count: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const step = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  const value = count / 1024 ** step;
  return `${step === 0 ? Math.round(value) : value.toFixed(1)} ${units[step] ?? ''}`;
}

/** Columns side by side. */
export function grid(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  );
}
