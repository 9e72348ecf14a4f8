import type { FailpointName } from '../../src/base/failpoint.js';
import { OPERATIONS, type Phrase } from './operations.js';
import { Random } from './random.js';
import type { History, Shape, Step } from './steps.js';
import { FIXED_TABLES, KEY_TABLES, RANGES } from './tables.js';
import { deleteRows, insertRows, someOf, updateRows } from './statements.js';

const FIRST_MAJOR_WITH_ORIGIN_FILTER = 16;
const KEY_TABLES_AT_ONCE = 3;
const STEPS_BETWEEN_CHECKS = 60;
const FAILPOINTS: readonly FailpointName[] = [
  'store-committing',
  'store-committed',
  'rehash-read',
  'layout-changed',
];

export interface HistoryOptions {
  readonly seed: number;
  readonly shape: Shape;
  readonly steps: number;
  readonly kills: number;
  /** So many times more plain writes than everything else; default 1. Makes steps cheap. */
  readonly calm?: number;
}

/** What phrases are made from. */
export class Author {
  readonly random: Random;
  readonly nodes: readonly string[];
  readonly tables: readonly string[];
  readonly isOneWay: boolean;
  /** Names columns and partitions that there were never before. */
  #lastNumber = 0;
  readonly touched = new Set<string>();

  constructor(random: Random, shape: Shape, tables: readonly string[]) {
    this.random = random;
    this.nodes = Array.from({ length: shape.nodes }, (_, index) => `n${index + 1}`);
    this.isOneWay = shape.major < FIRST_MAJOR_WITH_ORIGIN_FILTER;
    this.tables = tables;
  }

  nextNumber(): number {
    this.#lastNumber += 1;
    return this.#lastNumber;
  }

  table(): string {
    const table = this.random.pick(this.tables);
    this.touched.add(table);
    return table;
  }

  /** One of these if the history has it. */
  oneOf(tables: readonly string[]): string | null {
    const here = tables.filter((table) => this.tables.includes(table));
    if (here.length === 0) return null;
    const table = this.random.pick(here);
    this.touched.add(table);
    return table;
  }

  /** Whose writes are replicated. */
  writer(): string {
    return this.isOneWay ? 'n1' : this.random.pick(this.nodes);
  }

  /** Where a change can be kept from all others. */
  loner(): string {
    return this.random.pick(this.isOneWay ? this.nodes.slice(1) : this.nodes);
  }

  /** The rows that a node inserts and deletes: `modulus` and `rest` for statements. */
  ownedBy(node: string): { modulus: number; rest: number } {
    if (this.isOneWay) return node === 'n1' ? { modulus: 1, rest: 0 } : { modulus: 1, rest: 1 };
    return { modulus: this.nodes.length, rest: this.nodes.indexOf(node) };
  }

  /** The rows that some other node owns: what this node may lose without a conflict later. */
  ownedByOther(node: string): { modulus: number; rest: number } {
    if (this.isOneWay) return { modulus: 1, rest: 0 };
    const others = this.nodes.filter((other) => other !== node);
    return this.ownedBy(this.random.pick(others));
  }

  /** For a diff under load: writes that end up alike everywhere, of rows that nothing else touches. */
  busyWrites(table: string): { node: string; sql: string }[] {
    return (this.isOneWay ? ['n1'] : this.nodes).flatMap((node) => {
      const rows = { table, ...someOf(RANGES.busy, this.random), ...this.ownedBy(node) };
      return [insertRows(rows, this.random), updateRows(rows, this.random), deleteRows(rows)].map(
        (sql) => ({ node, sql }),
      );
    });
  }
}

/** A history from its seed. What happens when it is played is not known here. */
export function generate(options: HistoryOptions): History {
  const { seed, shape } = options;
  const random = new Random(seed);
  const tables = [...FIXED_TABLES, ...random.sample(KEY_TABLES, KEY_TABLES_AT_ONCE)];
  const author = new Author(random, shape, tables);
  const calm = options.calm ?? 1;
  const steps: Step[] = [];
  const killEvery = options.kills === 0 ? Infinity : options.steps / options.kills;
  let nextKill = killEvery;
  let nextCheck = STEPS_BETWEEN_CHECKS * calm;
  while (steps.length < options.steps) {
    steps.push(...(random.below(calm) > 0 ? plainWrites(author) : phrase(author)));
    if (steps.length >= nextKill) {
      nextKill += killEvery;
      steps.push(kill(author));
    }
    if (steps.length >= nextCheck) {
      nextCheck = steps.length + random.between(10, 2 * calm * STEPS_BETWEEN_CHECKS);
      steps.push(...checks(author));
    }
  }
  steps.push({ kind: 'resume', label: 'resume' }, ...finalChecks(tables));
  return { seed, shape, tables, settings: settings(random), steps };
}

const ENABLED: readonly Phrase[] = OPERATIONS.filter(({ waitsFor }) => waitsFor === undefined);
const TOTAL_WEIGHT = ENABLED.reduce((sum, { weight }) => sum + weight, 0);

function phrase(author: Author): Step[] {
  let at = author.random.below(TOTAL_WEIGHT);
  for (const { label, weight, write } of ENABLED) {
    at -= weight;
    if (at < 0) return write(author).map((step) => ({ ...step, label: step.label ?? label }));
  }
  return [];
}

function plainWrites(author: Author): Step[] {
  const [writes, transactions] = OPERATIONS;
  const chosen = author.random.oneIn(4) ? transactions : writes;
  return chosen?.write(author).map((step) => ({ label: chosen.label, ...step })) ?? [];
}

function checks(author: Author): Step[] {
  const { random } = author;
  const tables = [...author.touched];
  author.touched.clear();
  const steps: Step[] = [];
  if (random.oneIn(3)) {
    const table = author.table();
    steps.push({
      kind: 'busy check',
      label: 'diff under load',
      table,
      writes: author.busyWrites(table),
    });
  }
  if (random.oneIn(3)) {
    const table = author.table();
    const writes = random.oneIn(4) ? [] : author.busyWrites(table);
    steps.push({ kind: 'verify', label: 'verify under load', table, writes });
  }
  const method = random.oneIn(6) ? 'table-diff' : 'mtree-table-diff';
  steps.push({ kind: 'check', label: method, tables, method });
  if (random.oneIn(2)) return steps;
  // Drift does not stay for ever, or there would soon be nothing else.
  const source = author.isOneWay ? 'n1' : random.pick(author.nodes);
  for (const table of tables) {
    if (random.oneIn(2)) steps.push({ kind: 'repair', label: 'table-repair', table, source });
    else steps.push({ kind: 'heal', label: 'heal', table, source });
  }
  steps.push({ kind: 'check', label: 'mtree-table-diff', tables, method: 'mtree-table-diff' });
  return steps;
}

function finalChecks(tables: readonly string[]): Step[] {
  return [
    { kind: 'check', label: 'mtree-table-diff', tables, method: 'mtree-table-diff' },
    { kind: 'check', label: 'table-diff', tables, method: 'table-diff' },
    { kind: 'leaves', label: 'leaves' },
  ];
}

function kill(author: Author): Step {
  const { random } = author;
  const table = author.table();
  if (random.oneIn(6)) return { kind: 'leaves', label: 'leaves' };
  return {
    kind: 'kill',
    label: 'kill',
    delayMs: random.pick([0, 1, 3, 10, 25]),
    writes: random.oneIn(4) ? [] : author.busyWrites(table),
    diff: random.oneIn(3) ? table : null,
    failpoint: random.oneIn(3)
      ? { name: random.pick(FAILPOINTS), hit: random.pick([1, 2, 5, 9]) }
      : null,
  };
}

/** Small and quick, so that much happens: blocks are split, cached rows are forgotten. */
function settings(random: Random): Record<string, string> {
  return {
    ACED_TREE_BLOCK_ROWS: String(random.pick([4, 10, 40])),
    ACED_TREE_REFRESH_QUIET_MS: String(random.pick([0, 50, 1000])),
    ACED_TREE_REFRESH_BUDGET: String(random.pick([0, 0.25, 0.5])),
    ACED_TREE_ROW_DIGEST_BYTES: String(random.pick([0, 20_000, 33_554_432])),
    ACED_STREAM_FLUSH_INTERVAL_MS: String(random.pick([1, 5, 20, 200])),
    ACED_DIFF_COMPARE_UNIT_SIZE: String(random.pick([5, 50, 10_000])),
    ACED_DIFF_SETTLE_TIMEOUT_MS: '10000',
    ACED_STREAM_FENCE_TIMEOUT_MS: '20000',
  };
}
