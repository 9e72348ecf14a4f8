/** One thing that was looked at. */
export interface Finding {
  /** `problem`: something of aced does not work like this. `warning`: it works, and may mislead or harm. */
  readonly level: 'ok' | 'warning' | 'problem';
  /** What was looked at, e.g. `wal_level`. */
  readonly check: string;
  /** The node, table or subscription. */
  readonly subject: string;
  /** What was seen. */
  readonly evidence: string;
  /** What can be done about it; null: nothing has to be. */
  readonly remedy: string | null;
}

export interface DoctorResult {
  readonly nodes: readonly string[];
  readonly findings: readonly Finding[];
  /** Tables that were looked at. */
  readonly tables: number;
  readonly timeTakenMs: number;
}
