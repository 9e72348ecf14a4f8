import { AcedError } from '../base/errors.js';
import type { TableSpec } from '../table/table-spec.js';
import type { Topology } from '../replication/topology.js';
import type { DiffFileHead } from '../diff-file/diff-reader.js';
import type { RepairParams } from '../protocol/commands.js';
import type { CopyMode } from './decision.js';

/** One node that is to become like the source, and the pair of the file that says where it is not. */
export interface RepairTarget {
  readonly node: string;
  readonly pair: string;
}

/** Checks the flags. Errors: BAD_USAGE. */
export function repairMode(params: RepairParams): CopyMode {
  const isInsertOnly = params.insertOnly === true;
  const isUpsertOnly = params.upsertOnly === true;
  if (isInsertOnly && isUpsertOnly) {
    throw new AcedError('BAD_USAGE', '--insert-only and --upsert-only exclude each other', {
      hint: 'Use --insert-only for missing rows alone, --upsert-only for everything but deletes.',
    });
  }
  return { inserts: true, updates: !isInsertOnly, deletes: !isInsertOnly && !isUpsertOnly };
}

export interface RequestFacts {
  readonly source: string;
  readonly head: DiffFileHead;
  readonly path: string;
  readonly spec: TableSpec;
  /** All nodes of the cluster's definition. */
  readonly clusterNodes: readonly string[];
  /** Those that this repair may touch. */
  readonly usableNodes: readonly string[];
}

export interface RepairRequest {
  readonly targets: readonly RepairTarget[];
  readonly warnings: readonly string[];
}

/**
 * Checks the file against table and source of truth and finds the nodes to repair: in each pair with
 * the source, the other one. Pure. Errors: UNKNOWN_NODE, BAD_DIFF_FILE, UNSUPPORTED.
 */
export function repairRequest(facts: RequestFacts): RepairRequest {
  const { source, head, path, clusterNodes, usableNodes } = facts;
  checkFile(facts);
  const warnings: string[] = [];
  if (head.isLimitReached) {
    warnings.push(
      'The diff file does not hold all differences (its row limit was reached): run the diff again after this repair.',
    );
  }
  const targets: RepairTarget[] = [];
  let hasSource = false;
  for (const { name, rows } of head.pairs) {
    const nodes = pairNodes(name, Object.keys(rows));
    if (!nodes.includes(source)) continue;
    hasSource = true;
    for (const node of nodes.filter((other) => other !== source)) {
      if (!clusterNodes.includes(node)) {
        throw unknownNode(node, `the diff file's pair ${name}`, clusterNodes);
      }
      if (usableNodes.includes(node)) targets.push({ node, pair: name });
      else warnings.push(`Node ${node} is left alone: it is not among the chosen nodes.`);
    }
  }
  if (head.pairs.length > 0 && !hasSource) {
    const names = head.pairs.map(({ name }) => name).join(', ');
    throw new AcedError('BAD_DIFF_FILE', `${path} has no pair with ${source}, only ${names}`, {
      hint: 'Name one of the nodes of the file as the source of truth, or run the diff again.',
    });
  }
  return { targets, warnings };
}

/** The source of truth. Errors: BAD_USAGE, UNKNOWN_NODE. */
export function sourceOfTruth(
  params: RepairParams,
  clusterNodes: readonly string[],
  usableNodes: readonly string[],
): string {
  const source = params.sourceOfTruth;
  if (source === undefined || source === '') {
    throw new AcedError('BAD_USAGE', 'no source of truth is given', {
      hint: `Name the node whose rows are right: --source-of-truth <${clusterNodes.join('|')}>.`,
    });
  }
  if (!clusterNodes.includes(source)) {
    throw unknownNode(source, '--source-of-truth', clusterNodes);
  }
  if (!usableNodes.includes(source)) {
    throw new AcedError('BAD_USAGE', `the source of truth ${source} is not among --nodes`, {
      hint: 'Add it to --nodes, or leave --nodes out.',
    });
  }
  return source;
}

function checkFile({ head, path, spec }: RequestFacts): void {
  if (head.schema !== spec.schema || head.table !== spec.name) {
    throw new AcedError(
      'BAD_DIFF_FILE',
      `${path} is about table ${head.schema}.${head.table}, not ${spec.schema}.${spec.name}`,
      { hint: 'Give the diff file of this table, or name the table of the file.' },
    );
  }
  const key = spec.key.map((column) => column.name);
  const fileKey = head.primaryKey;
  if (fileKey.length > 0 && !sameNames(fileKey, key)) {
    throw new AcedError(
      'BAD_DIFF_FILE',
      `${path} has rows by the key (${fileKey.join(', ')}), but the table's key is (${key.join(', ')})`,
      { hint: 'The key has changed since: run the diff again.' },
    );
  }
  if (head.againstOrigin !== null) {
    throw new AcedError('UNSUPPORTED', `${path} was made with --against-origin`, {
      hint: 'Run the diff without --against-origin, then repair from that file.',
    });
  }
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name));
}

/** The nodes with rows in the pair, and those in its name: a node without rows may be left out. */
function pairNodes(name: string, withRows: readonly string[]): string[] {
  return [...new Set([...(withRows.length >= 2 ? [] : name.split('/')), ...withRows])];
}

function unknownNode(node: string, where: string, nodes: readonly string[]): AcedError {
  return new AcedError('UNKNOWN_NODE', `${where} names node ${node}, which the cluster has not`, {
    hint: `The cluster's nodes are ${nodes.join(', ')}.`,
  });
}

/**
 * What makes a repair of these nodes come back through replication, a sentence per subscription.
 * Repairs carry an origin of their own, which only `origin = none` subscriptions leave out. Where
 * another one applied the repair again, an insert would meet its own row and stop replication.
 */
export function echoes(topology: Topology, targets: readonly RepairTarget[]): AcedError[] {
  const nodes = new Set(targets.map(({ node }) => node));
  return topology.edges
    .filter((edge) => nodes.has(edge.from) && edge.kind === 'native' && edge.originMode === 'any')
    .map(
      ({ from, to, subscription }) =>
        new AcedError(
          'REPAIR_ECHO',
          `a repair of ${from} would be replicated to ${to} by subscription ${subscription}`,
          {
            hint: `On ${to}: ALTER SUBSCRIPTION "${subscription.replaceAll('"', '""')}" SET (origin = none); needs PostgreSQL 16 on both nodes.`,
          },
        ),
    );
}
