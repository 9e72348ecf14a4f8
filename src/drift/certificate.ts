import type { DriftedRow, FetchedRow } from '../diff/settle.js';
import type { BirthCertificate, DriftTrigger, LastWrite } from '../protocol/drift.js';
import { originNodes, writerOf, type Topology } from '../replication/topology.js';
import { isTimeKnown } from '../ingest/removals.js';
import { causeOf } from './incident.js';
import type { RowRemoval } from './row-removals.js';

export interface CertificateFacts {
  readonly trigger: DriftTrigger;
  readonly topology: Topology;
  /** Node -> position in its log that the finding holds at. */
  readonly positions: Readonly<Record<string, string>>;
  /** Those that were compared. */
  readonly nodes: readonly string[];
  readonly hints: readonly string[];
  /** By node that lacks the row: who took it away, where that is known. */
  readonly removals: ReadonlyMap<string, RowRemoval>;
}

/** What an incident's first row tells when it is found. */
export function certificateOf(
  row: DriftedRow | undefined,
  { trigger, topology, positions, nodes, hints, removals }: CertificateFacts,
): BirthCertificate {
  const origins = nodes.map((node) => originNodes(topology.edges, node));
  if (row === undefined) {
    return { trigger, cause: 'unknown', detectedAfterMs: null, positions, lastWrites: {}, hints };
  }
  const lastWrites: Record<string, LastWrite> = {};
  let lastCommitMs = -Infinity;
  nodes.forEach((node, i) => {
    const write = lastWriteOf(row.rows[i] ?? null, removals.get(node), origins[i]);
    lastWrites[node] = write;
    const commitMs = write.commitTime === null ? NaN : Date.parse(write.commitTime);
    if (commitMs > lastCommitMs) lastCommitMs = commitMs;
  });
  const taken = nodes.map((node) => removals.get(node) ?? null);
  const cause = causeOf(row.rows, taken, (origin, i) => origins[i]?.has(origin) !== true);
  const isSince = (trigger === 'change' || cause === 'truncate') && lastCommitMs > 0;
  const detectedAfterMs = isSince ? Math.max(0, Date.now() - lastCommitMs) : null;
  return { trigger, cause, detectedAfterMs, positions, lastWrites, hints };
}

function lastWriteOf(
  image: FetchedRow | null,
  removal: RowRemoval | undefined,
  origins: ReadonlyMap<string, string> | undefined,
): LastWrite {
  if (image !== null || removal === undefined) {
    return {
      xid: image?.version ?? null,
      isRemoval: false,
      commitTime: image?.commitTs ?? null,
      origin: writerOf(image?.origin ?? null, origins),
    };
  }
  return {
    xid: String(removal.xid),
    isRemoval: true,
    commitTime: isTimeKnown(removal.commitTimeUs) ? serverTime(removal.commitTimeUs) : null,
    origin: writerOf(removal.origin, origins),
  };
}

/** Microseconds since 1970 as servers with time zone UTC print them. */
function serverTime(timeUs: bigint): string {
  const text = new Date(Number(timeUs / 1000n)).toISOString();
  const fraction = String(timeUs % 1_000_000n)
    .padStart(6, '0')
    .replace(/0+$/, '');
  return `${text.slice(0, 10)} ${text.slice(11, 19)}${fraction === '' ? '' : `.${fraction}`}+00`;
}
