import { steadyNowMs } from '../base/clock.js';
import { runAll } from '../base/abort.js';
import { proveLeaves, type Proof } from '../ingest/prove.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { WrongLeaf } from '../store/store.js';
import type { Cluster } from './cluster.js';
import { readCatalogChanges } from './tree-building.js';
import { rehashOnNodes, type TreeWorkOptions } from './tree-work.js';

/** What was looking when a leaf was found wrong. */
export type FoundBy = 'verify' | 'scrub' | 'mtree-table-diff' | 'table-diff' | 'drift';

export interface ProofOptions extends Omit<TreeWorkOptions, 'nodes'> {
  readonly foundBy: FoundBy;
  /** How long a stream may take to pass a reading; default stream.fence_timeout_ms. */
  readonly fenceTimeoutMs?: number;
}

export interface ProofOutcome {
  /** Leaves that were what their table says. */
  readonly proved: number;
  /** Leaves that claimed nothing, read from the table. */
  readonly reread: number;
  /** Leaves that were not what their table says; mended. */
  readonly wrong: readonly WrongLeaf[];
  /** The catalog is no longer what the tree was made of: leaves say nothing, it must be built again. */
  readonly isOutdated: boolean;
}

/** Error lines of one pass: a tree that is wrong from end to end must not fill the log. */
const MAX_EVENTS = 100;

/**
 * Compares leaves with what the table says, on each node; node -> positions. What cannot be compared
 * and what is wrong is read from the table; wrong leaves are recorded first. Exact under load.
 * Holds the table's mutex already. Errors: STARVED, and those of a query.
 */
export async function proveBlocks(
  cluster: Cluster,
  table: TrackedTable,
  positions: ReadonlyMap<string, readonly number[]>,
  options: ProofOptions,
): Promise<ProofOutcome> {
  const proofs = await proveOnNodes(cluster, table, positions, options);
  const wrong: (WrongLeaf & { readonly position: number })[] = [];
  const again = new Map<string, number[]>();
  let proved = 0;
  let reread = 0;
  for (const [node, list] of positions) {
    const nodeAgain: number[] = [];
    for (const position of list) {
      const proof = proofs.get(node)?.get(position);
      if (proof?.kind === 'proved') {
        proved++;
        continue;
      }
      nodeAgain.push(position);
      if (proof?.kind !== 'wrong') reread++;
      else wrong.push({ ...wrongLeaf(table, node, position, proof, options.foundBy), position });
    }
    again.set(node, nodeAgain);
  }
  // DDL that sends no rows changes what a table says: no fault of the leaves.
  if (wrong.length > 0) {
    const { changed } = await readCatalogChanges(cluster, table, {
      nodes: table.nodes,
      signal: options.signal,
    });
    if (changed.length > 0) return { proved, reread, wrong: [], isOutdated: true };
  }
  recordWrongLeaves(cluster, wrong);
  for (const { node, position } of wrong) {
    table.leaves(node).markDirty(position);
    // What it was taken to be equal by was wrong: its rows may differ between the nodes.
    table.openRows?.openBlock(position, steadyNowMs());
  }
  const nodes = [...positions.keys()];
  await rehashOnNodes(cluster, table, again, { ...options, nodes });
  return { proved, reread, wrong, isOutdated: false };
}

async function proveOnNodes(
  cluster: Cluster,
  table: TrackedTable,
  positions: ReadonlyMap<string, readonly number[]>,
  options: ProofOptions,
): Promise<ReadonlyMap<string, ReadonlyMap<number, Proof>>> {
  const proofs = await runAll(positions, options.signal, async ([node, list], signal) => {
    const leaves = table.leaves(node);
    const clean = list.filter((position) => !leaves.isDirty(position));
    if (clean.length === 0) return [node, new Map<number, Proof>()] as const;
    const proved = await proveLeaves({
      table,
      pipeline: cluster.pipeline(node),
      server: cluster.pipeline(node).server,
      positions: clean,
      concurrency: options.concurrency,
      fenceTimeoutMs: options.fenceTimeoutMs ?? cluster.config.stream.fenceTimeoutMs,
      signal,
      onProgress: () => undefined,
    });
    return [node, proved] as const;
  });
  return new Map(proofs);
}

function wrongLeaf(
  table: TrackedTable,
  node: string,
  position: number,
  { leaf, read }: Extract<Proof, { kind: 'wrong' }>,
  foundBy: FoundBy,
): WrongLeaf {
  const { schema, name } = table.spec;
  const blockId = table.layout.ids[position] ?? 0;
  return { schema, name, node, blockId, foundBy, foundAtMs: Date.now(), leaf, read };
}

/** Keeps and logs them. Of a block only its number: its keys are the user's. */
export function recordWrongLeaves(cluster: Cluster, wrong: readonly WrongLeaf[]): void {
  wrong.forEach((found, index) => {
    cluster.store.addWrongLeaf(found);
    if (index >= MAX_EVENTS) return;
    cluster.log.error(
      {
        event: 'leaf_mismatch',
        node: found.node,
        table: `${found.schema}.${found.name}`,
        block: found.blockId,
        foundBy: found.foundBy,
        leaf: leafText(found.leaf),
        read: leafText(found.read),
      },
      index === MAX_EVENTS - 1 && wrong.length > MAX_EVENTS
        ? `a leaf was not what its table says; ${wrong.length - MAX_EVENTS} more are not listed`
        : 'a leaf was not what its table says; it is read again',
    );
  });
}

/** As results and events show it: rows, and the sum as 16 hex digits. */
export function leafText({ rows, sum }: WrongLeaf['leaf']): { rows: number; sum: string } {
  return { rows, sum: sum.toString(16).padStart(16, '0') };
}
