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
  const seconds = Math.max(0, Math.round((Date.now() - atMs) / 1000));
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h` : `${Math.floor(hours / 24)} d`;
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
