import { steadyNowMs } from '../base/clock.js';
import { AcedError } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext } from '../protocol/commands.js';
import {
  RANKS,
  type Rank,
  type StructureDiffParams,
  type StructureDiffResult,
} from '../protocol/schema-diff.js';
import { compareDefinitions } from '../schema/compare-definitions.js';
import { readDefinitions } from '../schema/definitions.js';
import { sift } from '../schema/left-out.js';
import { parseNameParts } from '../table/table-name.js';
import { parseTablePatterns } from '../table/table-pattern.js';
import { tellLeftOut } from './diff-table.js';

/**
 * Of ACE 3.0, as its page on schema-diff has them. Its 16, for what is cosmetic, it does not give: it does
 * not compare such things.
 */
const ACE_EXIT_CODES: Readonly<Record<Rank, number>> = {
  cosmetic: 0,
  equivalent_differing: 32,
  narrowed: 48,
  incompatible: 64,
  absent: 64,
};

/** `schema-diff --compare=structure`: what a schema is made of, without a look at any row. */
export async function structureDiff(
  cluster: Cluster,
  params: StructureDiffParams,
  context: CommandContext,
): Promise<StructureDiffResult> {
  const startedAtMs = steadyNowMs();
  const { schema } = params;
  const nodes = cluster.selectNodes(params.nodes, 2);
  tellLeftOut(cluster, nodes, context);
  const skips = (params.skipTables ?? []).flatMap((text) =>
    parseTablePatterns(text, { defaultSchema: null }),
  );
  refuseOurs(cluster, schema);
  const onNodes = await onEveryNode(cluster.poolsOf(nodes), context.signal, (_, pool, signal) =>
    pool.use(
      async (session) => ({
        major: Math.floor(session.serverVersion / 10_000),
        definitions: await readDefinitions(session, schema, signal),
      }),
      signal,
    ),
  );
  const found = new Map(Array.from(onNodes, ([node, { definitions }]) => [node, definitions]));
  if (![...found.values()].flat().some(({ kind }) => kind === 'schema')) {
    throw new AcedError('NO_SUCH_TABLE', `no node has a schema ${schema}`, {
      hint: 'Check the spelling; the name is as the catalog has it.',
    });
  }
  const sifted = sift(found, ({ name }) => skips.some((skip) => skip.matches(tableName(name))));
  const differences = compareDefinitions(sifted.nodes);
  const counts = Object.fromEntries(
    RANKS.map((rank) => [rank, differences.filter((one) => one.rank === rank).length]),
  ) as Record<Rank, number>;
  const majors = new Set(Array.from(onNodes.values(), ({ major }) => major));
  return {
    schema,
    nodes,
    differences,
    counts,
    objects: countObjects(sifted.nodes),
    leftOut: sifted.leftOut,
    warnings: majors.size > 1 ? [majorsWarning(onNodes)] : [],
    exitCode: exitCodeOf(differences[0]?.rank ?? null, params.aceExitCodes === true),
    timeTakenMs: steadyNowMs() - startedAtMs,
  };
}

function exitCodeOf(worst: Rank | null, isAce: boolean): number {
  if (worst === null) return 0;
  if (isAce) return ACE_EXIT_CODES[worst];
  return worst === 'cosmetic' ? 0 : 1;
}

function refuseOurs(cluster: Cluster, schema: string): void {
  if (schema !== cluster.config.nodeSchema) return;
  throw new AcedError('BAD_USAGE', `${schema} is aced's own schema on the nodes`, {
    hint: 'Name a schema of yours.',
  });
}

/** From the server's own spelling. */
function tableName(qualified: string): { schema: string; name: string } {
  const { schema, name } = parseNameParts(qualified);
  return { schema: schema.text, name: name.text };
}

function majorsWarning(onNodes: ReadonlyMap<string, { readonly major: number }>): string {
  const list = Array.from(onNodes, ([node, { major }]) => `${major} on ${node}`).join(', ');
  return `PostgreSQL is ${list}: definitions that mean the same may be printed differently`;
}

/** Kind -> objects that some node has. */
function countObjects(
  nodes: ReadonlyMap<string, readonly { readonly kind: string; readonly name: string }[]>,
): Record<string, number> {
  const names = new Map<string, Set<string>>();
  for (const { kind, name } of [...nodes.values()].flat()) {
    names.set(kind, (names.get(kind) ?? new Set()).add(name));
  }
  return Object.fromEntries(Array.from(names, ([kind, known]) => [kind, known.size]));
}
