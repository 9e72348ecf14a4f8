import type { DriftedRow } from '../diff/settle.js';
import type { BirthCertificate, DriftTrigger, LastWrite } from '../protocol/drift.js';
import { originNodes, writerOf, type Topology } from '../replication/topology.js';
import { causeOf } from './incident.js';

export interface CertificateFacts {
  readonly trigger: DriftTrigger;
  readonly topology: Topology;
  /** Node -> position in its log that the finding holds at. */
  readonly positions: Readonly<Record<string, string>>;
  /** Those that were compared. */
  readonly nodes: readonly string[];
  readonly hints: readonly string[];
}

/** What an incident's first row tells when it is found. */
export function certificateOf(
  row: DriftedRow | undefined,
  { trigger, topology, positions, nodes, hints }: CertificateFacts,
): BirthCertificate {
  const origins = nodes.map((node) => originNodes(topology.edges, node));
  if (row === undefined) {
    return { trigger, cause: 'unknown', detectedAfterMs: null, positions, lastWrites: {}, hints };
  }
  const lastWrites: Record<string, LastWrite> = {};
  let lastCommitMs = -Infinity;
  nodes.forEach((node, i) => {
    const image = row.rows[i] ?? null;
    lastWrites[node] = {
      xid: image?.version ?? null,
      commitTime: image?.commitTs ?? null,
      origin: writerOf(image?.origin ?? null, origins[i]),
    };
    const commitMs = image?.commitTs == null ? NaN : Date.parse(image.commitTs);
    if (commitMs > lastCommitMs) lastCommitMs = commitMs;
  });
  const detectedAfterMs =
    trigger === 'change' && lastCommitMs > 0 ? Math.max(0, Date.now() - lastCommitMs) : null;
  const cause = causeOf(row.rows, (origin, i) => origins[i]?.has(origin) !== true);
  return { trigger, cause, detectedAfterMs, positions, lastWrites, hints };
}
