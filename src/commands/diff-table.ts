import { join } from 'node:path';
import { allOrCause } from '../base/abort.js';
import {
  findTable,
  readClusterTable,
  requireColumns,
  readCommitTimeNodes,
  type ClusterTable,
} from '../cluster/cluster-table.js';
import { configuredColumns, requireConfiguredColumns } from '../cluster/left-out-columns.js';
import { comparedTable } from '../cluster/table-to-compare.js';
import type { Cluster } from '../cluster/cluster.js';
import { KeySink } from '../diff/diff-sink.js';
import { originDiff } from '../diff/origin-diff.js';
import { tableDiff, type TableDiffOptions } from '../diff/table-diff.js';
import { BlockSql } from '../merkle/block-sql.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import type { CommandContext, DiffResult, TableDiffParams } from '../protocol/commands.js';
import type { KeyText } from '../table/table-spec.js';
import { AcedError, errorMessage } from '../base/errors.js';
import { proveBlocks, recordWrongLeaves } from '../cluster/block-proof.js';
import type { TrackedTable } from '../ingest/tracked-table.js';
import type { TableName } from '../table/table-name.js';
import { checkRowFilter } from '../table/row-filter.js';
import { serversOf } from '../protocol/servers.js';
import { digestId, isOrderIndexed } from '../table/table-spec.js';

/** Rows a block of `table-diff` has at most: smaller ones make differing rows cheaper to find. */
const TABLE_DIFF_BLOCK_ROWS = 1000;
const MAX_UNINDEXED_BLOCKS = 64;
/** Differing rows whose blocks are compared with a tree's. */
const MAX_DOUBTED_ROWS = 10_000;

/** `table-diff`: needs no tree, no slot and no rights beyond SELECT. */
export async function diffTable(
  cluster: Cluster,
  params: TableDiffParams,
  context: CommandContext,
): Promise<DiffResult> {
  const nodes = cluster.selectNodes(params.nodes, 2);
  tellLeftOut(cluster, nodes, context);
  const pools = cluster.poolsOf(nodes);
  const name = await findTable(pools, params.table, context.signal);
  const leftOut = params.excludeColumns ?? [];
  const only = params.columns;
  const [catalog, commitTimeNodes] = await allOrCause([
    readClusterTable(pools, name, context.signal, {
      leftOut,
      configured: configuredColumns(cluster.config, name),
      ...(only === undefined ? {} : { only }),
      ...(params.key === undefined ? {} : { key: params.key }),
      allowsMultiset: true,
    }),
    readCommitTimeNodes(pools, context.signal),
  ]);
  if (context.isOneOfMany !== true) {
    requireColumns(catalog, leftOut);
    requireColumns(catalog, only ?? [], '--columns');
  }
  requireConfiguredColumns(cluster.config, catalog);
  if (params.resume === true && params.againstOrigin !== undefined) {
    throw new AcedError('BAD_USAGE', '--resume and --against-origin exclude each other', {
      hint: 'Leave --resume out: a diff against an origin always looks at the whole table.',
    });
  }
  if (catalog.spec.isMultiset === true) requireNoKey(params, name);
  requireCommitTimes(params, nodes, commitTimeNodes);
  const { spec, infos } = catalog;
  const { config } = cluster;
  const { tableFilter, againstOrigin } = params;
  const blockSize = params.blockSize ?? 100_000;
  const concurrencyFactor = params.concurrencyFactor ?? config.diff.concurrencyFactor;
  const mostRows = Math.max(0, ...Array.from(infos.values(), (info) => info.estimatedRows));
  const drifted = new KeySink(MAX_DOUBTED_ROWS);
  const sql = new BlockSql({
    spec,
    seed: cluster.store.seed,
    ...(tableFilter === undefined ? {} : { filter: tableFilter }),
  });
  const run = (either: NodePools): Promise<DiffResult> => {
    const table = comparedTable(cluster, {
      ...{ spec, sql, infos, pools: either },
      // A content that is there several times has no one writer.
      commitTimeNodes: spec.isMultiset === true ? new Set<string>() : commitTimeNodes,
      signal: context.signal,
    });
    return againstOrigin === undefined
      ? tableDiff({ ...options, table })
      : originDiff({ ...options, table, origin: againstOrigin });
  };
  const options: Omit<TableDiffOptions, 'table'> = {
    config,
    blockRows: isOrderIndexed(spec)
      ? Math.min(blockSize, TABLE_DIFF_BLOCK_ROWS)
      : Math.max(TABLE_DIFF_BLOCK_ROWS, Math.ceil(mostRows / MAX_UNINDEXED_BLOCKS)),
    output: params.output ?? 'json',
    context,
    blockSize,
    compareUnitSize: params.compareUnitSize ?? config.diff.compareUnitSize,
    concurrencyFactor,
    concurrency: cluster.hashConcurrency(concurrencyFactor),
    ...(tableFilter === undefined ? {} : { tableFilter }),
    ...wishesOf(params),
    progress: {
      directory: join(config.stateDir, 'table-diff'),
      identity: identityOf(cluster, { spec, infos, nodes, tableFilter }),
    },
    ...(params.resume === undefined ? {} : { resume: params.resume }),
    sinks: [drifted],
    onReadingOrder: (node, { by, reason }) => {
      const label = `${name.schema}.${name.name}`;
      cluster.log.debug({ event: 'reading_order', node, table: label, by }, reason);
    },
    onContradiction: ({ node, sum, rows }) => {
      const { schema, name: table } = name;
      const found = { schema, name: table, node, blockId: 0, foundBy: 'table-diff' } as const;
      recordWrongLeaves(cluster, [{ ...found, foundAtMs: Date.now(), leaf: sum, read: rows }]);
    },
  };
  const result =
    tableFilter === undefined
      ? await run(pools)
      : await cluster.withUserPath(nodes, async (userPools) => {
          await onEveryNode(userPools, context.signal, (_, pool, signal) =>
            pool.use((session) => checkRowFilter(session, name, tableFilter, signal), signal),
          );
          return run(userPools);
        });
  const warning = await doubtTree(cluster, name, drifted.keys, { ...context, nodes });
  return warning === null ? result : { ...result, warnings: [...result.warnings, warning] };
}

/** Errors: UNSUPPORTED for what asks about single rows. */
function requireNoKey(
  { againstOrigin, until, tolerances }: TableDiffParams,
  { schema, name }: TableName,
): void {
  const flag =
    (againstOrigin !== undefined && '--against-origin') ||
    (until !== undefined && '--until') ||
    (tolerances !== undefined && '--tolerance');
  if (flag === false) return;
  throw new AcedError(
    'UNSUPPORTED',
    `${flag}: the rows of ${schema}.${name} cannot be told apart, it has no key`,
    {
      hint: 'Name columns that are unique and not null: --key a,b.',
    },
  );
}

interface Identity extends Pick<ClusterTable, 'spec' | 'infos'> {
  readonly nodes: readonly string[];
  readonly tableFilter: string | undefined;
}

/** All that sums of ranges depend on: what a diff with another one has proved says nothing of this one. */
function identityOf(
  { config, store }: Cluster,
  { spec, infos, nodes, tableFilter = '' }: Identity,
): string {
  const servers = serversOf(config.nodes.filter(({ name }) => nodes.includes(name)));
  const oids = Array.from(infos, ([node, { oid }]) => [node, oid]);
  const { schema, name, key } = spec;
  return JSON.stringify([
    schema,
    name,
    key,
    digestId(store.seedId, spec),
    tableFilter,
    servers,
    oids,
  ]);
}

/** What is asked of the comparison itself. */
function wishesOf({
  maxDiffRows,
  maxHtmlRows,
  samplePercent,
  tolerances,
  until,
}: TableDiffParams): Pick<
  TableDiffOptions,
  'maxDiffRows' | 'maxHtmlRows' | 'samplePercent' | 'tolerances' | 'until'
> {
  return {
    ...(maxDiffRows === undefined ? {} : { maxDiffRows }),
    ...(maxHtmlRows === undefined ? {} : { maxHtmlRows }),
    ...(samplePercent === undefined ? {} : { samplePercent }),
    ...(tolerances === undefined ? {} : { tolerances }),
    ...(until === undefined ? {} : { until }),
  };
}

/** Errors: UNSUPPORTED when the flags ask for what some node does not record. */
export function requireCommitTimes(
  { againstOrigin, until }: Pick<TableDiffParams, 'againstOrigin' | 'until'>,
  nodes: readonly string[],
  recording: ReadonlySet<string>,
): void {
  const silent = nodes.filter((node) => !recording.has(node));
  const flag =
    againstOrigin !== undefined ? '--against-origin' : until !== undefined ? '--until' : null;
  if (flag === null || silent.length === 0) return;
  throw new AcedError(
    'UNSUPPORTED',
    `${flag} needs to know when and where from rows were written, which is not recorded on ${silent.join(', ')}`,
    {
      hint: 'Set track_commit_timestamp = on there and restart the server; it records from then on.',
    },
  );
}

interface DoubtOptions {
  readonly nodes: readonly string[];
  readonly signal: AbortSignal;
}

/**
 * Rows that are proved to differ in blocks whose leaves are equal: either the rows have changed since,
 * or the tree is wrong. Returns what a person must know; null: nothing.
 */
async function doubtTree(
  cluster: Cluster,
  { schema, name }: TableName,
  drifted: readonly KeyText[],
  { nodes, signal }: DoubtOptions,
): Promise<string | null> {
  const label = `${schema}.${name}`;
  if (drifted.length === 0 || !cluster.isStreaming) return null;
  return cluster.mutex(schema, name).run(async () => {
    const table = cluster.tables.find((one) => one.label === label);
    if (table?.state !== 'live') return null;
    const positions = await equalBlocksOf(cluster, table, drifted, { nodes, signal });
    if (positions.length === 0) return null;
    const byNode = new Map(nodes.map((node) => [node, positions] as const));
    const work = { concurrency: 1, signal, foundBy: 'table-diff' } as const;
    try {
      const { wrong } = await proveBlocks(cluster, table, byNode, work);
      if (wrong.length === 0) return null;
      return `${wrong.length} leaves of the tree of ${label} were wrong; they are mended, and acectl mtree verify looks at the others`;
    } catch (error) {
      if (signal.aborted) throw error;
      return `the tree of ${label} may be wrong, and could not be compared with the table: ${errorMessage(error)}`;
    }
  });
}

/** Positions of the keys' blocks, where the nodes' leaves are clean and equal. */
async function equalBlocksOf(
  cluster: Cluster,
  table: TrackedTable,
  keys: readonly KeyText[],
  { nodes, signal }: DoubtOptions,
): Promise<number[]> {
  const bounds = table.layout.lowers.slice(1).map((lower) => lower ?? []);
  const query = table.sql.locate(keys, bounds);
  const located = await cluster
    .pool(nodes[0] ?? '')
    .use((session) => session.query(query.text, query.params, signal), signal);
  const positions = new Set(located.map(([, position]) => Number(position)));
  const [first, ...others] = nodes.map((node) => table.leaves(node));
  return [...positions].filter((position) =>
    others.every(
      (leaves) =>
        first?.isDirty(position) === false &&
        !leaves.isDirty(position) &&
        first.isEqual(leaves, position),
    ),
  );
}

/** The verdict is on the chosen nodes alone. */
export function tellLeftOut(
  cluster: Cluster,
  nodes: readonly string[],
  context: CommandContext,
): void {
  const others = cluster.config.nodes.flatMap(({ name }) => (nodes.includes(name) ? [] : [name]));
  if (others.length === 0) return;
  context.emit({ type: 'log', level: 'info', message: `Not compared: ${others.join(', ')}` });
}
