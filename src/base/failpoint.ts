/** Where tests can make the process die. */
export type FailpointName =
  /** A batch is complete in memory, nothing of it is on disk. */
  | 'store-committing'
  /** A batch and its position are durable, the slot has not heard of it. */
  | 'store-committed'
  /** Blocks were read from the server, their leaves are still the old ones. */
  | 'rehash-read'
  /** New boundaries are durable, their blocks were not read. */
  | 'layout-changed'
  /** The publication is there, the slot is not. */
  | 'publication-ready'
  /** The slot is there, no position of ours is. */
  | 'slot-created';

const [armed = '', hits = '1'] = (process.env['ACED_FAILPOINT'] ?? '').split(':');
let remaining = Number(hits);

/**
 * Ends the process as a power cut would when ACED_FAILPOINT names this point; `name:n` is the n-th
 * time it is reached. For tests of what survives.
 */
export function failpoint(name: FailpointName): void {
  if (name !== armed) return;
  remaining -= 1;
  if (remaining <= 0) process.kill(process.pid, 'SIGKILL');
}
