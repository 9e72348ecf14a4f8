import { runAll } from '../base/abort.js';
import { NO_LSN, type Lsn } from '../base/lsn.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext, UpdateParams } from '../protocol/commands.js';
import type { Cluster } from './cluster.js';

type CatchUpParams = Pick<UpdateParams, 'skipCdc' | 'cdcTimeoutMs'>;

/** Node -> the position that its stream must have passed. Skipping CDC, any will do. */
export async function takeFences(
  cluster: Cluster,
  nodes: readonly string[],
  params: CatchUpParams,
  context: CommandContext,
): Promise<ReadonlyMap<string, Lsn>> {
  if (params.skipCdc === true) return new Map(nodes.map((node) => [node, NO_LSN]));
  return onEveryNode(cluster.poolsOf(nodes), context.signal, (node, _, signal) =>
    cluster.pipeline(node).takeFence(signal),
  );
}

/** Every commit before the fences is in the leaves when this returns. Rejects with STARVED. */
export async function passFences(
  cluster: Cluster,
  fences: ReadonlyMap<string, Lsn>,
  params: CatchUpParams,
  context: CommandContext,
): Promise<void> {
  const timeoutMs = params.cdcTimeoutMs ?? cluster.config.stream.fenceTimeoutMs;
  await runAll(fences, context.signal, ([node, fence], signal) =>
    cluster.pipeline(node).waitForPosition(fence, timeoutMs, signal),
  );
}
