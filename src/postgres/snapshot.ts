/** pg_current_snapshot(): 64-bit transaction ids of top-level transactions. */
export interface Snapshot {
  /** All ids below have ended. */
  readonly xmin: bigint;
  /** No id from here on had ended. */
  readonly xmax: bigint;
  /** Ids in [xmin, xmax) that were in progress. */
  readonly xip: ReadonlySet<bigint>;
}

const SNAPSHOT_PATTERN = /^(\d+):(\d+):((?:\d+(?:,\d+)*)?)$/;

/** Reads `xmin:xmax:xip,xip,...`; throws a RangeError that names the input. */
export function parseSnapshot(text: string): Snapshot {
  const match = SNAPSHOT_PATTERN.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new RangeError(`not a snapshot: ${JSON.stringify(text)}`);
  }
  const list = match[3] === undefined || match[3] === '' ? [] : match[3].split(',');
  return { xmin: BigInt(match[1]), xmax: BigInt(match[2]), xip: new Set(list.map(BigInt)) };
}

/** The form that PostgreSQL prints. */
export function formatSnapshot(snapshot: Snapshot): string {
  const xip = [...snapshot.xip].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0));
  return `${snapshot.xmin}:${snapshot.xmax}:${xip.join(',')}`;
}

/**
 * Whether the snapshot sees the work of a committed transaction, given the 32-bit id that the
 * replication stream carries. The ids in question are less than 2^31 away from xmax, which is
 * PostgreSQL's own rule for comparing 32-bit ids.
 */
export function isVisible(snapshot: Snapshot, xid32: number): boolean {
  const xid = widenXid(xid32, snapshot.xmax);
  if (xid < snapshot.xmin) return true;
  if (xid >= snapshot.xmax) return false;
  return !snapshot.xip.has(xid);
}

/** The 64-bit id nearest to `near` with these low 32 bits. */
export function widenXid(xid32: number, near: bigint): bigint {
  return near + BigInt.asIntN(32, BigInt(xid32) - near);
}
