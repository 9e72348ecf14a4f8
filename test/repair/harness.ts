import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { DigestSeed } from '../../src/digest/digest-column.js';
import { digestExpression } from '../../src/digest/digest-sql.js';
import { quoteIdentifier, quoteQualified } from '../../src/base/quote.js';
import { readTable } from '../../src/table/catalog.js';
import { SessionPool } from '../../src/postgres/session-pool.js';
import { buildTableSpec } from '../../src/table/build-spec.js';
import { readTopology } from '../../src/replication/topology.js';
import type { TableInfo } from '../../src/table/table-info.js';
import { digestId } from '../../src/table/table-spec.js';
import type { TableSpec } from '../../src/table/table-spec.js';
import { repairTable, type TableRepairResult } from '../../src/repair/repair.js';
import { DiffFileWriter, type DiffRow, type RowImage } from '../../src/diff-file/diff-writer.js';
import type { CommandContext, RepairParams } from '../../src/protocol/commands.js';
import type { Mesh } from '../support/mesh.js';

const SEED: DigestSeed = { seed: -77n, nullToken: 'd'.repeat(32) };
export const SEED_ID = 'seed-1';

/** What a repair counts of a node that it has nothing to do on. */
export const NOTHING = {
  upserted: 0,
  deleted: 0,
  skipped: 0,
  failed: 0,
  alreadyEqual: 0,
  left: 0,
};

/** Diffs and repairs the tables of a mesh, without an engine. */
export class RepairHarness {
  readonly mesh: Mesh;
  readonly directory: string;
  /** Of the superuser. */
  readonly pools: ReadonlyMap<string, SessionPool>;
  /** What repairs work with. */
  readonly #repairPools: ReadonlyMap<string, SessionPool>;

  private constructor(mesh: Mesh, directory: string, user: string | null) {
    this.mesh = mesh;
    this.directory = directory;
    const poolsOf = (role: string | null): Map<string, SessionPool> =>
      new Map(
        mesh.nodeConfigs().map((node) => {
          const as = { ...node, user: role ?? node.user };
          return [node.name, new SessionPool(as, { max: 2, applicationName: 'aced test' })];
        }),
      );
    this.pools = poolsOf(null);
    this.#repairPools = user === null ? this.pools : poolsOf(user);
  }

  /** @param user who repairs; default: the superuser */
  static async create(mesh: Mesh, user: string | null = null): Promise<RepairHarness> {
    return new RepairHarness(mesh, await mkdtemp(join(tmpdir(), 'aced-repair-')), user);
  }

  async close(): Promise<void> {
    const pools = [...this.pools.values(), ...this.#repairPools.values()];
    await Promise.all(pools.map((pool) => pool.close()));
    await rm(this.directory, { recursive: true });
  }

  async table(
    schema: string,
    name: string,
  ): Promise<{ spec: TableSpec; infos: Map<string, TableInfo> }> {
    const infos = new Map<string, TableInfo>();
    for (const [node, pool] of this.pools) {
      infos.set(node, await pool.use((session) => readTable(session, schema, name)));
    }
    return { spec: buildTableSpec(infos), infos };
  }

  /** Compares the whole table and writes the file; null: equal. */
  async diff(schema: string, name: string, seedId = SEED_ID): Promise<string | null> {
    const { spec, infos } = await this.table(schema, name);
    const [info] = infos.values();
    const compared = new Set(spec.columns.map((column) => column.name));
    const columns = (info?.columns ?? []).filter((column) => compared.has(column.name));
    const list = columns.map((column) => `t.${quoteIdentifier(column.name)}`).join(', ');
    const keys = spec.key.map((column) => `t.${quoteIdentifier(column.name)}`).join(', ');
    const rows = new Map<string, Map<string, RowImage | null>>();
    for (const [node, pool] of this.pools) {
      const found = await pool.use((session) =>
        session.query(
          `SELECT row_to_json(ROW(${keys}))::text, ${digestExpression(spec.columns, SEED, 't')}::text, ${list}
           FROM ${quoteQualified(schema, name)} t ORDER BY ${keys}`,
        ),
      );
      for (const row of found) {
        const id = row[0] ?? '';
        const images = rows.get(id) ?? new Map<string, RowImage | null>();
        rows.set(id, images);
        images.set(node, {
          digest: BigInt.asUintN(64, BigInt(row[1] ?? '0'))
            .toString(16)
            .padStart(16, '0'),
          values: row.slice(2),
          commitTs: null,
          origin: null,
        });
      }
    }
    const writer = await DiffFileWriter.create({
      directory: this.directory,
      schema,
      table: name,
      suffix: 'diffs',
      startedAt: new Date(),
      nodes: this.mesh.names,
      columns: columns.map((column) => ({ name: column.name, baseTypeOid: column.baseTypeOid })),
      primaryKey: spec.key.map((column) => column.name),
      maxDiffRows: 1_000_000,
      seedId: digestId(seedId, spec),
      servers: {},
    });
    await writer.add([...rows.values()].map((images): DiffRow => ({ images })));
    const file = await writer.finish({
      blockSize: 1,
      compareUnitSize: 1,
      concurrencyFactor: 1,
      totalRowsChecked: 1,
      initialRangesCount: 1,
      mismatchedRangesCount: 1,
      timeTakenMs: 1,
      positions: {},
      verdict: 'drift',
      excludedColumns: [],
      warnings: [],
    });
    return file === null ? null : join(this.directory, file);
  }

  async repair(
    file: string | null,
    table: { schema: string; name: string },
    params: Partial<RepairParams> = {},
    work: Partial<Pick<CommandContext, 'signal' | 'emit'>> = {},
  ): Promise<TableRepairResult> {
    const { spec, infos } = await this.table(table.schema, table.name);
    const sessions = [...this.pools];
    const borrow = async (
      index: number,
      found: Map<
        string,
        Parameters<typeof readTopology>[0] extends ReadonlyMap<string, infer S> ? S : never
      >,
    ): ReturnType<typeof readTopology> => {
      const entry = sessions[index];
      if (entry === undefined) return readTopology(found);
      return entry[1].use((session) => borrow(index + 1, found.set(entry[0], session)));
    };
    return repairTable({
      spec,
      infos,
      pools: chosen(this.#repairPools, params.nodes),
      replication: Promise.resolve({
        pools: this.pools,
        topology: await borrow(0, new Map()),
        unreachable: [],
      }),
      reign: null,
      seed: SEED,
      seedId: SEED_ID,
      params: { table: `${table.schema}.${table.name}`, ...withSource(params) },
      context: {
        signal: new AbortController().signal,
        emit: () => undefined,
        reportDir: this.directory,
        ...(file === null ? {} : { inputPath: file, inputName: 'given.json' }),
        ...work,
      },
      config: this.mesh.config(this.directory),
    });
  }

  async readReport(file: string): Promise<Record<string, unknown>> {
    return JSON.parse(await readFile(join(this.directory, file), 'utf8')) as Record<
      string,
      unknown
    >;
  }
}

/** n1, where the mode takes one and the test names none. */
function withSource(params: Partial<RepairParams>): Partial<RepairParams> {
  const isTwoWay = [params.bidirectional, params.fixNulls, params.undo].includes(true);
  const needsNone = isTwoWay || params.repairPlan !== undefined;
  return needsNone ? params : { sourceOfTruth: 'n1', ...params };
}

function chosen<T>(
  pools: ReadonlyMap<string, T>,
  nodes: readonly string[] = [...pools.keys()],
): Map<string, T> {
  return new Map([...pools].filter(([node]) => nodes.includes(node)));
}
