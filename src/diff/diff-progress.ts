import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { steadyNowMs } from '../base/clock.js';
import { parseLsn } from '../base/lsn.js';
import type { LeafValue } from '../merkle/leaves.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import type { DiffPart } from '../protocol/commands.js';
import type { KeyText } from '../table/table-spec.js';

const VERSION = 1;
const SAVE_INTERVAL_MS = 5_000;
/** What was equal so long ago is not worth more than a new look. */
const MAX_AGE_MS = 24 * 3_600_000;

/** One beginning of a diff, with what it proved equal. */
interface Part extends Omit<DiffPart, 'ranges'> {
  /** Node -> when its server was started: another past may have begun since. */
  readonly servers: Readonly<Record<string, string>>;
  /** First and last number of ranges that were equal on all nodes; in pairs. */
  readonly equal: number[];
  rows: number;
}

interface SavedProgress {
  readonly version: number;
  /** What cuts the whole table. */
  readonly boundaries: readonly KeyText[];
  readonly parts: readonly Part[];
}

export interface ProgressOptions {
  readonly directory: string;
  /** All that the sums of the ranges depend on, as one text. */
  readonly identity: string;
}

/**
 * What a table-diff has proved so far, in a file: only ranges whose sums were equal on all nodes. Those that differ,
 * or that some node was not asked for, are read again.
 */
export class DiffProgress {
  readonly boundaries: readonly KeyText[];
  readonly #path: string;
  readonly #before: readonly Part[];
  readonly #part: Part;
  readonly #isKept: boolean;
  readonly #done: ReadonlySet<number>;
  readonly #values = new Map<string, (LeafValue | undefined)[]>();
  #savedAtMs = steadyNowMs();

  private constructor(
    path: string,
    saved: Omit<SavedProgress, 'version'>,
    {
      servers,
      ...part
    }: Omit<Beginning, 'servers'> & { readonly servers: Beginning['servers'] | null },
  ) {
    this.#path = path;
    this.boundaries = saved.boundaries;
    this.#before = saved.parts;
    this.#part = { ...part, servers: servers ?? {}, equal: [], rows: 0 };
    this.#isKept = servers !== null;
    this.#done = new Set(saved.parts.flatMap(({ equal }) => numbersIn(equal)));
  }

  /** For a diff from the beginning; without `servers` nothing of it is kept. */
  static start(
    options: ProgressOptions,
    boundaries: readonly KeyText[],
    now: Omit<Beginning, 'servers'> & { readonly servers: Beginning['servers'] | null },
  ): DiffProgress {
    return new DiffProgress(pathOf(options), { boundaries, parts: [] }, now);
  }

  /** Goes on where one ended, or says why not. */
  static async resume(options: ProgressOptions, now: Beginning): Promise<DiffProgress | string> {
    const path = pathOf(options);
    let saved: SavedProgress;
    try {
      saved = JSON.parse(await readFile(path, 'utf8')) as SavedProgress;
    } catch {
      return 'no interrupted diff of this table with these options on these nodes is known';
    }
    if (saved.version !== VERSION) return 'it was written by another release';
    const why = whyNot(saved.parts, now);
    return why ?? new DiffProgress(path, saved, now);
  }

  /** Numbers of the ranges that are still to be looked at. */
  get open(): number[] {
    return Array.from({ length: this.boundaries.length + 1 }, (_, i) => i).filter(
      (number) => !this.#done.has(number),
    );
  }

  /** Rows of the ranges that are not looked at again. */
  get provedRows(): number {
    return this.#before.reduce((sum, { rows }) => sum + rows, 0);
  }

  /** From when each part is, the oldest first; this beginning is the last. */
  get parts(): DiffPart[] {
    const ranges = this.boundaries.length + 1;
    const of = (
      { startedAt, positions, equal }: Part,
      equalRanges = numbersIn(equal).length,
    ): DiffPart => ({
      startedAt,
      positions,
      ranges: equalRanges,
    });
    const before = this.#before.map((part) => of(part));
    const proved = before.reduce((sum, part) => sum + part.ranges, 0);
    return [...before, of(this.#part, ranges - proved)];
  }

  get isResumed(): boolean {
    return this.#before.length > 0;
  }

  /** @param values of a node, by the ranges' numbers; they fill up */
  follow(node: string, values: (LeafValue | undefined)[]): void {
    this.#values.set(node, values);
  }

  /** Some ranges have come in. */
  async note(nodes: number): Promise<void> {
    if (steadyNowMs() - this.#savedAtMs < SAVE_INTERVAL_MS) return;
    this.#savedAtMs = steadyNowMs();
    await this.save(nodes);
  }

  /** @param nodes how many are compared: what fewer have answered proves nothing */
  async save(nodes: number): Promise<void> {
    if (!this.#isKept) return;
    const part = this.#proved(nodes);
    const parts = [...this.#before, part].filter(({ equal }) => equal.length > 0);
    if (parts.length === 0) return;
    const progress: SavedProgress = { version: VERSION, boundaries: this.boundaries, parts };
    const temporary = `${this.#path}.${process.pid}`;
    await mkdir(join(this.#path, '..'), { recursive: true, mode: 0o700 });
    // Keys of rows are in it.
    await writeFile(temporary, JSON.stringify(progress), { mode: 0o600 });
    await rename(temporary, this.#path);
  }

  async forget(): Promise<void> {
    if (this.#isKept) await rm(this.#path, { force: true });
  }

  #proved(nodes: number): Part {
    const part: Part = { ...this.#part, equal: [], rows: 0 };
    const [first = [], ...others] = this.#values.size === nodes ? [...this.#values.values()] : [];
    for (const [number, value] of first.entries()) {
      if (value === undefined || this.#done.has(number)) continue;
      if (!others.every((other) => isSame(other[number], value))) continue;
      part.rows += value.rows;
      if (part.equal.at(-1) === number - 1) part.equal[part.equal.length - 1] = number;
      else part.equal.push(number, number);
    }
    return part;
  }
}

/** When and where a diff begins. */
export type Beginning = Pick<Part, 'startedAt' | 'positions' | 'servers'>;

/** Node -> when its server was started. */
export async function readServerStarts(
  pools: NodePools,
  signal: AbortSignal,
): Promise<Record<string, string>> {
  const starts = await onEveryNode(pools, signal, (_, pool, either) =>
    pool.use(
      (session) => session.query('SELECT pg_catalog.pg_postmaster_start_time()::text', [], either),
      either,
    ),
  );
  return Object.fromEntries(Array.from(starts, ([node, rows]) => [node, rows[0]?.[0] ?? '']));
}

function whyNot(parts: readonly Part[], now: Beginning): string | null {
  const [first] = parts;
  if (first === undefined) return 'it had proved nothing';
  const age = Date.parse(now.startedAt) - Date.parse(first.startedAt);
  if (!(age <= MAX_AGE_MS)) return `it began at ${first.startedAt}, more than a day ago`;
  for (const [node, start] of Object.entries(now.servers)) {
    if (parts.some(({ servers }) => servers[node] !== start)) {
      return `the server of ${node} was started again since`;
    }
    const position = parseLsn(now.positions[node] ?? '0/0');
    if (parts.some(({ positions }) => parseLsn(positions[node] ?? '0/0') > position)) {
      return `${node} has another history than it had`;
    }
  }
  return null;
}

function isSame(one: LeafValue | undefined, other: LeafValue): boolean {
  return one !== undefined && one.rows === other.rows && one.sum === other.sum;
}

function numbersIn(pairs: readonly number[]): number[] {
  const numbers: number[] = [];
  for (let i = 0; i < pairs.length; i += 2) {
    for (let number = pairs[i] ?? 0; number <= (pairs[i + 1] ?? -1); number += 1)
      numbers.push(number);
  }
  return numbers;
}

function pathOf({ directory, identity }: ProgressOptions): string {
  const name = createHash('sha256').update(identity).digest('hex').slice(0, 32);
  return join(directory, `${name}.json`);
}
