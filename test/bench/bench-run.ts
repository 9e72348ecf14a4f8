import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Mesh } from '../support/mesh.js';
import { buildBaseline, type Baseline } from './against.js';
import { defaultConfig, startLoadedMesh, startScarceMesh } from './bench-cluster.js';
import { EngineProcess } from './engine-process.js';
import { describe, judge, type Figure, type JudgedFigure } from './figures.js';
import { Floors } from './floors.js';

export interface BenchOptions {
  /** Rows of the customer table on each node. */
  readonly rows: number;
  /** Row changes in the backlog that is drained. */
  readonly changes: number;
  /** Times that a measure and its floor are taken in turn; the medians count. */
  readonly repeat: number;
  /** Rows per block; default as the product's. */
  readonly blockRows?: number;
  readonly loadSeconds: number;
  /** Tables that are built and compared as a whole. */
  readonly tables: readonly string[];
  /** A commit that is built, and measured in turn with this build. */
  readonly against?: string;
  /** Rows that are spoiled one after the other. */
  readonly driftRows: number;
}

/** Long enough that the background refresher never takes a measure's dirty blocks away. */
const NO_REFRESH_MS = 3_600_000;

export interface LoadedCluster {
  readonly mesh: Mesh;
  readonly floors: Floors;
  readonly engine: EngineProcess;
  /** The same of the commit to measure against. */
  readonly baseline: EngineProcess | null;
}

/** What the measures share: the loaded cluster (made when first needed) and the figures so far. */
export class BenchRun {
  readonly options: BenchOptions;
  readonly figures: JudgedFigure[] = [];
  readonly #cleanups: (() => Promise<void>)[] = [];
  #cluster: Promise<LoadedCluster> | null = null;
  #baseline: Promise<Baseline> | null = null;
  #hasTree = false;

  constructor(options: BenchOptions) {
    this.options = options;
  }

  report(figure: Figure): void {
    const judged = judge(figure);
    this.figures.push(judged);
    console.log(describe(judged));
  }

  /** Three loaded nodes, and an initialised engine with the default configuration. */
  async cluster(): Promise<LoadedCluster> {
    const { rows, tables } = this.options;
    this.#cluster ??= this.#start(() =>
      startLoadedMesh(rows, [...new Set(['customers', ...tables])]),
    );
    return this.#cluster;
  }

  /** Does some work with a cluster of its own that has one table, of which a quarter fits into its servers' buffers. */
  async withScarceMemory(
    table: string,
    work: (cluster: LoadedCluster) => Promise<void>,
  ): Promise<void> {
    const before = this.#cleanups.length;
    await work(await this.#start(() => startScarceMesh(this.options.rows, table)));
    await this.#clean(before);
  }

  /** The same with a tree of the customer table. */
  async clusterWithTree(): Promise<LoadedCluster> {
    const cluster = await this.cluster();
    if (!this.#hasTree) await cluster.engine.run('mtree-build', { table: 'customers' });
    this.#hasTree = true;
    return cluster;
  }

  /** A directory that lives as long as the run. */
  async scratch(): Promise<string> {
    const directory = await mkdtemp(join(tmpdir(), 'aced-bench-'));
    this.onEnd(() => rm(directory, { recursive: true, force: true }));
    return directory;
  }

  onEnd(cleanup: () => Promise<void>): void {
    this.#cleanups.push(cleanup);
  }

  async end(): Promise<void> {
    await this.#clean(0);
    const baseline = await this.#baseline;
    await baseline?.remove();
  }

  /** Undoes what came after the first ones, the last first. */
  async #clean(first: number): Promise<void> {
    for (const cleanup of this.#cleanups.splice(first).reverse()) await cleanup();
  }

  async #start(startMesh: () => Promise<Mesh>): Promise<LoadedCluster> {
    const baseline = await this.#against();
    const startedAt = performance.now();
    const mesh = await startMesh();
    this.onEnd(() => mesh.stop());
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(0);
    console.log(`three nodes with ${this.options.rows} rows each were ready after ${seconds} s`);
    const floors = new Floors(mesh);
    this.onEnd(() => floors.close());
    const engine = await this.#engine(mesh, 'bench_engine');
    const other = baseline === null ? null : await this.#engine(mesh, 'bench_against', baseline);
    return { mesh, floors, engine, baseline: other };
  }

  /** The program of the commit to measure against, built once. */
  async #against(): Promise<string | null> {
    const { against } = this.options;
    if (against === undefined) return null;
    this.#baseline ??= buildBaseline(against);
    return (await this.#baseline).child;
  }

  async #engine(mesh: Mesh, name: string, child?: string): Promise<EngineProcess> {
    const { blockRows } = this.options;
    const defaults = defaultConfig(mesh, await this.scratch(), {
      refreshQuietMs: NO_REFRESH_MS,
      ...(blockRows === undefined ? {} : { blockRows }),
    });
    const config = {
      ...defaults,
      // Judging what the measures spoil would take its share of the time; `drift` measures that.
      drift: { ...defaults.drift, isEnabled: false },
      // The daemon of another measure has the cluster's own names.
      ...{ slotName: name, publicationName: name, nodeSchema: name },
    };
    const engine = await EngineProcess.open(config, 'daemon', child);
    this.onEnd(() => engine.close());
    await engine.run('mtree-init', {});
    return engine;
  }
}
