import { AcedError } from '../base/errors.js';
import { readDiffRows } from '../diff-file/diff-reader.js';
import { readRows, digestsOf, type Decided, type Deciding, type Values } from './decided-rows.js';
import { decide, type Ruling } from './decision.js';
import { keyTextsOf, textOfJson } from '../diff-file/file-row.js';
import { inParts, type Expectation } from './expectation.js';
import { describeResult, withTarget, type NodeRepair, type OpenedTarget } from './pair-repair.js';
import { columnsOf, infoOf, sqlOf, type RepairRun } from './repair-run.js';
import { ReadSession } from './read-session.js';
import type { RepairSql } from './repair-sql.js';
import type { RepairReportWriter } from '../report/repair-report.js';
import { noCounts, sumCounts, TargetRepair, type TargetRepairResult } from './target-repair.js';
import { digestId } from '../table/table-spec.js';
import { RowSums } from './row-sums.js';
import { beforeOf } from './undo-file.js';

/** So many rows are put back from one reading of the file: their values are held. */
const UNDO_PART_ROWS = 50_000;

interface UndoOptions {
  readonly path: string;
  readonly node: string;
  readonly pair: string;
  /** In the order of the statements' values. */
  readonly columns: readonly string[];
  readonly keyColumns: readonly string[];
  readonly reader: ReadSession;
  readonly sql: RepairSql;
  readonly signal: AbortSignal;
}

const PUT_BACK: Ruling = {
  wish: { kind: 'copy', mode: { inserts: true, updates: true, deletes: true } },
  appliesToStale: false,
};

/**
 * Puts rows back as an undo file has them. The file stands for the source: its rows cannot have
 * changed. A row that is not as the repair left it is not touched.
 */
class PutBack implements Deciding {
  readonly readsAhead = false;
  readonly #options: UndoOptions;
  readonly #values: ReadonlyMap<string, Values>;

  private constructor(options: UndoOptions, values: ReadonlyMap<string, Values>) {
    this.#options = options;
    this.#values = values;
  }

  /** Reads what the rows of these keys were. Errors: BAD_DIFF_FILE. */
  static async of(keys: readonly Expectation[], options: UndoOptions): Promise<PutBack> {
    const { path, pair, node, columns, keyColumns } = options;
    const wanted = new Set(keys.map(({ key }) => JSON.stringify(key)));
    const values = new Map<string, Values>();
    for await (const batch of readDiffRows(path, { pairs: [pair] })) {
      if (batch.node !== beforeOf(node)) continue;
      for (const row of batch.rows) {
        const id = JSON.stringify(keyTextsOf(row, keyColumns, path));
        if (!wanted.has(id)) continue;
        const texts = columns.map((name) => {
          const raw = row.values[row.columns.indexOf(name)];
          return raw === undefined || raw === 'null' ? null : textOfJson(raw);
        });
        values.set(id, texts);
      }
    }
    return new PutBack(options, values);
  }

  async decide(keys: readonly Expectation[]): Promise<Decided[]> {
    return this.look(keys);
  }

  async decideAgain(rows: readonly Decided[]): Promise<readonly Decided[]> {
    return Promise.resolve(rows);
  }

  async look(keys: readonly Expectation[]): Promise<Decided[]> {
    const { reader, sql, signal } = this.#options;
    const numbered = keys.map(({ key }, number) => ({ number, key }));
    const reading = { sql, signal, withValues: true };
    const found = await readRows(reader, numbered, reading);
    const rows = numbered.flatMap(({ number, key }) => {
      const values = this.#values.get(JSON.stringify(key));
      return values === undefined ? [] : [{ number, values }];
    });
    const digests = await digestsOf(rows, { targetReader: reader, sql, signal });
    return keys.map((expectation, number): Decided => {
      const target = found.get(number);
      const values = this.#values.get(JSON.stringify(expectation.key));
      const current = {
        ...{ source: expectation.source, sourceProof: expectation.source },
        ...{ target: target?.digest ?? null, targetProof: target?.digest ?? null },
      };
      const decision = decide(expectation, current, PUT_BACK);
      const row = { number, expectation, ruling: PUT_BACK, target, source: undefined };
      const isWrite = decision === 'insert' || decision === 'update';
      if (!isWrite || values === undefined || expectation.source === null) {
        return { ...row, decision, meant: undefined };
      }
      // What the file's form of a value cannot say exactly is not put back.
      const { source: digest } = expectation;
      if (digests.get(number) !== digest) return { ...row, decision: 'unfit', meant: undefined };
      return { ...row, decision, meant: { digest, merged: values, isPartial: false } };
    });
  }
}

/** Puts a node's rows back as an undo file has them. Errors: BAD_DIFF_FILE. */
export async function undoNode(
  run: RepairRun,
  work: { readonly node: string; readonly report: RepairReportWriter | null },
): Promise<NodeRepair> {
  const { file, path, seedId, spec } = run;
  if (file.head.seedId !== digestId(seedId, spec)) {
    const message = `${path} was written with another state directory, or other columns`;
    throw new AcedError('BAD_DIFF_FILE', message, {
      hint: 'Its digests mean nothing here: undo where the repair was made.',
    });
  }
  return withTarget(run, work, (opened) => putBack(run, work.node, opened));
}

async function putBack(
  run: RepairRun,
  node: string,
  { session, target, changes }: OpenedTarget,
): Promise<Omit<NodeRepair, 'node' | 'files'>> {
  const { spec, file, path, context } = run;
  const { signal } = context;
  const info = infoOf(run, node);
  const pair = `${node}/${beforeOf(node)}`;
  const reader = new ReadSession(session);
  const sql = sqlOf(run, { node, peer: node });
  const columns = columnsOf(spec, info).map(({ name }) => name);
  const keyColumns = spec.key.map(({ name }) => name);
  const sides = { source: beforeOf(node), target: node };
  const rows = await file.expectations({ name: pair, ...sides }, null);
  let counts = noCounts();
  const sums = new RowSums();
  const failedRows: TargetRepairResult['failedRows'][number][] = [];
  const warnings: string[] = [];
  let before = 0;
  for (const part of inParts(rows.entries(), UNDO_PART_ROWS)) {
    const options = { path, node, pair, columns, keyColumns, reader, sql, signal };
    const deciding = await PutBack.of(part, options);
    const result = await new TargetRepair({
      ...{ node, peer: sides.source, target, changes, deciding, sql, signal },
      ...{ source: reader, targetReader: reader, ownWrites: null, values: null },
      ...{ keepsCommitTime: false, mayConvert: false, looksFirst: true, looksAtValues: true },
      expectations: { size: part.length, entries: () => part },
      rowBytes: file.head.rowBytes,
      rulingOf: () => PUT_BACK,
      tableOid: info.oid,
      onProgress: (done) =>
        context.emit({
          type: 'progress',
          phase: `Undoing on ${node}`,
          done: before + done,
          total: rows.size,
        }),
    }).run();
    before += part.length;
    counts = sumCounts(counts, result.counts);
    sums.addAll(result.sums);
    failedRows.push(...result.failedRows);
    const isDry = target === null;
    const described = { result, node, peer: 'the undo file', session, isDry };
    warnings.push(...(await describeResult(run, described)));
  }
  return { counts, failedRows, sums, warnings };
}
