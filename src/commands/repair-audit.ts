import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { Logger } from '../base/log.js';
import type { CommandContext, RepairParams, RepairResult } from '../protocol/commands.js';
import type { RepairAudit } from '../protocol/tasks.js';
import { hashOf } from '../repair/request.js';

/** What says, beside file and plan, which rows are written and how. */
const FLAGS = {
  insertOnly: '--insert-only',
  upsertOnly: '--upsert-only',
  bidirectional: '--bidirectional',
  fixNulls: '--fix-nulls',
  preserveOrigin: '--preserve-origin',
  undo: '--undo',
  fireTriggers: '--fire-triggers',
  recoveryMode: '--recovery-mode',
  allowUnproved: '--allow-unproved',
} as const;

/** As much as is known without its end. Never rejects. */
export async function beginAudit(
  params: RepairParams,
  context: CommandContext,
  epoch: number | null,
): Promise<RepairAudit> {
  const { inputPath, inputName, peerUid, certificate, signal } = context;
  const flags: string[] = Object.entries(FLAGS).flatMap(([name, flag]) =>
    params[name as keyof typeof FLAGS] === true ? [flag] : [],
  );
  if (params.sourceOfTruth !== undefined) flags.push(`--source-of-truth=${params.sourceOfTruth}`);
  if (params.stale !== undefined) flags.push(`--stale=${params.stale}`);
  return {
    uid: peerUid === undefined ? (process.getuid?.() ?? null) : peerUid,
    ...(certificate === undefined ? {} : { certificate }),
    file: inputName ?? inputPath ?? null,
    fileHash: inputPath === undefined ? null : await hashOfFile(inputPath, signal),
    planHash: params.repairPlan === undefined ? null : hashOf(params.repairPlan),
    flags,
    ...(epoch === null ? {} : { epoch }),
    nodes: null,
  };
}

export function endAudit(audit: RepairAudit, { nodes, digests }: RepairResult): RepairAudit {
  const counted = Object.entries(nodes).map(([node, counts]) => {
    const { upserted, deleted, skipped, failed } = counts;
    const { before = '', after = '' } = digests?.[node] ?? {};
    const row = { upserted, deleted, skipped, failed, digestBefore: before, digestAfter: after };
    return [node, row] as const;
  });
  return { ...audit, nodes: Object.fromEntries(counted) };
}

/** One line a repair: what log shipping can keep for good. */
export function logRepair(
  log: Logger,
  { nodes, ...audit }: RepairAudit,
  about: { readonly params: object; readonly outcome: string },
): void {
  const table = 'table' in about.params ? about.params.table : undefined;
  log.info({ event: 'repair_recorded', table, outcome: about.outcome, ...audit, repaired: nodes });
}

/** SHA-256; null: the file cannot be read, which the repair itself will say, or it was cancelled. */
async function hashOfFile(path: string, signal: AbortSignal): Promise<string | null> {
  const hash = createHash('sha256');
  try {
    await pipeline(createReadStream(path), hash, { signal });
    return hash.digest('hex');
  } catch {
    return null;
  }
}
