/** What a history can show to be wrong. */
export type FailureKind =
  /** Said equal, and plain SQL sees a difference. */
  | 'false match'
  /** Said drift of rows that are equal, or that were on their way. */
  | 'false drift'
  /** Drift, as it is, but not of those rows. */
  | 'wrong keys'
  /** A leaf that is not dirty is not what the table says. */
  | 'changes lost'
  /** Neither equal nor different, and no reason for it is known. */
  | 'unproved'
  /** A repair said done, and the rows are not equal. */
  | 'repair untrue'
  | 'command failed'
  | 'command hangs'
  | 'daemon ended'
  /** Replication itself stands still: the generator's fault, or harm that was done to it. */
  | 'replication stuck';

export class HistoryFailure extends Error {
  readonly kind: FailureKind;
  /** Position of the step that showed it; set by the player. */
  step = -1;

  constructor(kind: FailureKind, message: string) {
    super(`${kind}: ${message}`);
    this.name = 'HistoryFailure';
    this.kind = kind;
  }
}

/** What happened, counted. */
export class Tally {
  steps = 0;
  histories = 0;
  kills = 0;
  serverRestarts = 0;
  leavesCompared = 0;
  rowsSeenDifferent = 0;
  timeMs = 0;
  readonly byLabel = new Map<string, number>();
  readonly msByLabel = new Map<string, number>();
  /** Statements that failed, as they may: a key that is there, a table that is away. */
  readonly refusedByLabel = new Map<string, number>();
  /** `mtree-table-diff match`, with the reason where it was not decided. */
  readonly verdicts = new Map<string, number>();
  readonly failures = new Map<string, number>();

  count(map: Map<string, number>, what: string, times = 1): void {
    map.set(what, (map.get(what) ?? 0) + times);
  }

  add(other: Tally): void {
    this.steps += other.steps;
    this.histories += other.histories;
    this.kills += other.kills;
    this.serverRestarts += other.serverRestarts;
    this.leavesCompared += other.leavesCompared;
    this.rowsSeenDifferent += other.rowsSeenDifferent;
    this.timeMs += other.timeMs;
    const pairs = [
      [this.byLabel, other.byLabel],
      [this.msByLabel, other.msByLabel],
      [this.refusedByLabel, other.refusedByLabel],
      [this.verdicts, other.verdicts],
      [this.failures, other.failures],
    ] as const;
    for (const [mine, theirs] of pairs) {
      for (const [what, times] of theirs) this.count(mine, what, times);
    }
  }

  get diffs(): number {
    return sum(this.verdicts);
  }

  /** Diffs that gave no answer. */
  get undecided(): number {
    return sum(new Map([...this.verdicts].filter(([what]) => !/ (match|drift)$/.test(what))));
  }

  describe(): string {
    const lines = (map: Map<string, number>): string =>
      [...map]
        .sort(([, a], [, b]) => b - a)
        .map(([what, times]) => {
          const ms = map === this.byLabel ? this.msByLabel.get(what) : undefined;
          const each = ms === undefined ? '' : `, ${(ms / times).toFixed(1)} ms each`;
          return `  ${times} ${what}${each}`;
        })
        .join('\n');
    const refused = sum(this.refusedByLabel);
    return [
      `${this.steps} steps in ${this.histories} histories, ${this.kills} kills of the daemon, ${this.serverRestarts} of servers, ${Math.round(this.timeMs / 1000)} s`,
      `${this.diffs} diffs, ${this.undecided} undecided; ${this.leavesCompared} leaves compared; ${this.rowsSeenDifferent} differing rows named`,
      `statements refused by the servers: ${refused}`,
      `failures: ${sum(this.failures)}`,
      lines(this.failures),
      'verdicts:',
      lines(this.verdicts),
      'steps by kind:',
      lines(this.byLabel),
      'refused by kind:',
      lines(this.refusedByLabel),
    ].join('\n');
  }
}

function sum(map: ReadonlyMap<string, number>): number {
  return [...map.values()].reduce((total, times) => total + times, 0);
}
