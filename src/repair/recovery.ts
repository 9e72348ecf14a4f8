import { AcedError } from '../base/errors.js';
import { parseLsn } from '../base/lsn.js';
import type { DiffFileHead } from '../diff-file/diff-reader.js';
import type { NodePools } from '../postgres/every-node.js';
import {
  appliedPositions,
  findOrigins,
  parseOriginWish,
  type NodeOrigins,
} from '../replication/node-origins.js';
import type { Replication } from '../replication/passage.js';
import type { RepairOptions } from './repair-run.js';

/** What is known of the node whose rows a diff with --against-origin has compared. */
export interface Recovery {
  /** As the diff named it. */
  readonly lost: string;
  /** Survivor -> how far it has applied the lost node's log; null: nothing tells. */
  readonly applied: Readonly<Record<string, string | null>>;
  /** Without the paths from the lost node, on which nothing will come any more. */
  readonly replication: Replication;
  readonly warnings: readonly string[];
}

/**
 * Looks at the survivors: which of them has applied most of what the lost node wrote, and whether
 * anything can still come from it. Errors: BAD_USAGE, MISSING_PRIVILEGE.
 */
export async function readRecovery(
  { pools, config, context }: RepairOptions,
  head: Pick<DiffFileHead, 'againstOrigin' | 'pairs'>,
  replication: Replication,
): Promise<Recovery> {
  const lost = head.againstOrigin;
  if (lost === null) {
    throw new AcedError(
      'BAD_USAGE',
      '--recovery-mode: the diff file does not say which node was lost',
      {
        hint: 'Run table-diff --against-origin <node> --nodes <survivors> and repair from that file, or leave --recovery-mode out.',
      },
    );
  }
  const survivors = survivorsOf(head, pools);
  const { signal } = context;
  const origins = await findOrigins({
    ...{ wanted: lost, pools: survivors, replication, nodes: config.nodes, signal },
  });
  const applied: Record<string, string | null> = {};
  for (const [node, pool] of survivors) {
    const { streams = [] } = origins.get(node) ?? {};
    const positions = await pool.use((session) => appliedPositions(session, streams), signal);
    // Several subscriptions to one publisher are as many positions, and none of them is the node's.
    applied[node] = positions.length === 1 ? (positions[0] ?? null) : null;
  }
  const { name } = parseOriginWish(lost);
  return { lost, applied, ...withoutLost(replication, { name, origins }) };
}

function survivorsOf({ pairs }: Pick<DiffFileHead, 'pairs'>, pools: NodePools): NodePools {
  const inFile = new Set(pairs.flatMap(({ name }) => name.split('/')));
  const survivors = [...pools].filter(([node]) => inFile.has(node));
  return new Map(survivors.length === 0 ? pools : survivors);
}

/**
 * The survivor that has applied more of the lost node's log than any other. Errors: BAD_USAGE where that
 * cannot be told: it is never guessed.
 */
export function furthestSurvivor({ lost, applied }: Pick<Recovery, 'lost' | 'applied'>): string {
  const known = Object.entries(applied).flatMap(([node, position]) =>
    position === null ? [] : [{ node, lsn: parseLsn(position) }],
  );
  const unknown = Object.keys(applied).filter((node) => applied[node] === null);
  const [first, second] = known.toSorted((a, b) => (a.lsn < b.lsn ? 1 : a.lsn > b.lsn ? -1 : 0));
  const hint = `Name the survivor whose rows are right: --source-of-truth <${Object.keys(applied).join('|')}>.`;
  if (first === undefined || unknown.length > 0) {
    throw new AcedError(
      'BAD_USAGE',
      `--recovery-mode: how far ${lost} was applied is not known on ${unknown.join(', ')}: ` +
        'its subscription was dropped, has applied nothing yet, or is one of several',
      { hint },
    );
  }
  if (second?.lsn === first.lsn) {
    const tied = known.filter(({ lsn }) => lsn === first.lsn).map(({ node }) => node);
    throw new AcedError(
      'BAD_USAGE',
      `--recovery-mode: ${tied.join(' and ')} have applied the same of ${lost}, up to ${applied[first.node] ?? ''}`,
      { hint },
    );
  }
  return first.node;
}

/** `n1 has applied n3 up to 0/3001A28, n2 up to 0/3000F10` */
export function describeApplied({ lost, applied }: Pick<Recovery, 'lost' | 'applied'>): string {
  const parts = Object.entries(applied).map(
    ([node, position]) => `${node} up to ${position ?? 'an unknown position'}`,
  );
  return `Of ${lost} was applied: ${parts.join(', ')}`;
}

interface LostNode {
  readonly name: string | null;
  readonly origins: ReadonlyMap<string, NodeOrigins>;
}

/** A node that answers, or that still sends, is not lost: its paths stay in. */
function withoutLost(
  replication: Replication,
  { name, origins }: LostNode,
): Pick<Recovery, 'replication' | 'warnings'> {
  if (name !== null && replication.pools.has(name)) return { replication, warnings: [] };
  const { topology, unreachable } = replication;
  const streamOf = (
    node: string,
    subscription: string,
  ): NodeOrigins['streams'][number] | undefined =>
    origins.get(node)?.streams.find((stream) => stream.subscription === subscription);
  const isSilent = ({ node, name: subscription }: (typeof topology.fromOutside)[number]): boolean =>
    streamOf(node, subscription)?.isReceiving === false;
  const warnings = topology.fromOutside.flatMap((one) =>
    isSilent(one) && streamOf(one.node, one.name)?.isEnabled === true
      ? [
          `Subscription ${one.name} on ${one.node} is still enabled: it goes on if ${name ?? 'its publisher'} comes back. Drop it.`,
        ]
      : [],
  );
  return {
    replication: {
      ...replication,
      unreachable: unreachable.filter((node) => node !== name),
      topology: {
        ...topology,
        fromOutside: topology.fromOutside.filter((one) => !isSilent(one)),
      },
    },
    warnings,
  };
}
