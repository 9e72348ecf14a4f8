import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { NodeConfig } from '../config/config.js';
import { indentedJson } from '../diff-file/diff-summary.js';
import { jsonFormatter, jsonString } from '../diff-file/json-value.js';
import { OutputFile, writing } from '../diff-file/output-file.js';
import { publishFile } from '../diff-file/publish-file.js';
import type { ReportColumn } from '../diff-file/row-text.js';

/** The arguments of the command as ACE names them. */
export interface RepairArguments {
  readonly cluster: string;
  readonly table: string;
  readonly diffFile: string;
  readonly sourceOfTruth: string;
  readonly isDryRun: boolean;
  readonly isInsertOnly: boolean;
  readonly isUpsertOnly: boolean;
  readonly isBidirectional: boolean;
  readonly fixesNulls: boolean;
  readonly firesTriggers: boolean;
  readonly isRecovery: boolean;
}

export interface RepairReportOptions {
  /** The file goes to `reports/<YYYY-MM-DD>/` in there. */
  readonly directory: string;
  readonly startedAt: Date;
  readonly columns: readonly ReportColumn[];
  readonly arguments: RepairArguments;
  /** Of the source of truth; its password is never written. */
  readonly credentials: Pick<
    NodeConfig,
    'database' | 'user' | 'sslMode' | 'sslCert' | 'sslKey' | 'sslRootCert'
  >;
}

export type RepairChange = 'upserted' | 'deleted';

/** In the order in which ACE lists them: a Go map's, by name. */
const CHANGES: readonly RepairChange[] = ['deleted', 'upserted'];
const MEMBER_NAMES = {
  live: { deleted: 'deleted_rows', upserted: 'upserted_rows' },
  dry: { deleted: 'would_delete', upserted: 'would_upsert' },
} as const;

/**
 * ACE's report of a repair or dry run, written as a stream through one spool file per node and kind
 * of change. Any failure is REPORT_WRITE and leaves nothing behind.
 */
export class RepairReportWriter {
  readonly #options: RepairReportOptions;
  readonly #hidden: string;
  readonly #dayDirectory: string;
  readonly #spools = new Map<string, OutputFile>();
  readonly #nodes = new Set<string>();
  readonly #format: (values: readonly (string | null)[]) => string;

  private constructor(options: RepairReportOptions, dayDirectory: string, hidden: string) {
    this.#options = options;
    this.#dayDirectory = dayDirectory;
    this.#hidden = hidden;
    this.#format = rowFormatter(options.columns);
  }

  static async create(options: RepairReportOptions): Promise<RepairReportWriter> {
    const day = options.startedAt.toISOString().slice(0, 10);
    const dayDirectory = join(options.directory, 'reports', day);
    const hidden = await writing(dayDirectory, async () => {
      await mkdir(dayDirectory, { recursive: true });
      return mkdtemp(join(dayDirectory, '.aced-report-'));
    });
    return new RepairReportWriter(options, dayDirectory, hidden);
  }

  /** Rows of raw PostgreSQL text in the order of the columns. */
  async add(
    node: string,
    change: RepairChange,
    rows: readonly (readonly (string | null)[])[],
  ): Promise<void> {
    if (rows.length === 0) return;
    this.#nodes.add(node);
    const key = JSON.stringify([node, change]);
    let spool = this.#spools.get(key);
    let isFirst = false;
    if (spool === undefined) {
      isFirst = true;
      spool = await OutputFile.create(join(this.#hidden, String(this.#spools.size)));
      this.#spools.set(key, spool);
    }
    for (const row of rows) {
      spool.append(isFirst ? this.#format(row) : `,\n${this.#format(row)}`);
      isFirst = false;
      if (spool.isFull) await spool.flush();
    }
  }

  /** Returns the report's path relative to the directory. */
  async finish(runTimeMs: number): Promise<string> {
    const { startedAt, arguments: args } = this.#options;
    const output = await OutputFile.create(join(this.#hidden, 'report.json'));
    try {
      output.append(this.#head());
      await this.#appendChanges(output);
      output.append(`,\n  "run_time": ${runTimeMs / 1_000}\n}`);
      await output.finish();
    } finally {
      await output.close();
    }
    const kind = args.isDryRun ? 'dry_run_report' : 'repair_report';
    const name = await publishFile(output.path, this.#dayDirectory, (attempt) => {
      const time = new Date(startedAt.getTime() + attempt).toISOString();
      return `${kind}_${time.slice(11, 23).replaceAll(':', '')}.json`;
    });
    await this.abort();
    return join('reports', startedAt.toISOString().slice(0, 10), name);
  }

  /** Removes what is temporary. May be called at any time. */
  async abort(): Promise<void> {
    for (const spool of this.#spools.values()) await spool.close();
    this.#spools.clear();
    await writing(this.#hidden, () => rm(this.#hidden, { recursive: true, force: true }));
  }

  #head(): string {
    const { startedAt, arguments: args, credentials } = this.#options;
    const head = {
      operation_type: args.isDryRun ? 'DRY_RUN' : 'table-repair',
      mode: args.isDryRun ? 'DRY_RUN' : 'LIVE_RUN',
      time_stamp: startedAt.toISOString().slice(0, 23).replace('T', ' '),
      supplied_args: {
        bidirectional: args.isBidirectional,
        cluster_name: args.cluster,
        dbname: credentials.database,
        diff_file_path: args.diffFile,
        dry_run: args.isDryRun,
        fire_triggers: args.firesTriggers,
        ...(args.fixesNulls ? { fix_nulls: true } : {}),
        generate_report: true,
        insert_only: args.isInsertOnly,
        quiet: false,
        recovery_mode: args.isRecovery,
        repair_plan_path: '',
        source_of_truth: args.sourceOfTruth,
        table_name: args.table,
        upsert_only: args.isUpsertOnly,
      },
      database_credentials_used: {
        db_name: credentials.database,
        db_user: credentials.user,
        db_password: '',
        // ACE shows only what was configured; `prefer` is what libpq does by itself.
        ssl_mode: ['prefer', 'disable'].includes(credentials.sslMode) ? '' : credentials.sslMode,
        ssl_cert: credentials.sslCert ?? '',
        ssl_key: credentials.sslKey ?? '',
        ssl_root_cert: credentials.sslRootCert ?? '',
      },
    };
    // Without the closing brace: the changes follow.
    return `${indentedJson(head, 0).slice(0, -2)},\n  "changes": `;
  }

  async #appendChanges(output: OutputFile): Promise<void> {
    const nodes = [...this.#nodes].sort();
    const names = MEMBER_NAMES[this.#options.arguments.isDryRun ? 'dry' : 'live'];
    if (nodes.length === 0) {
      output.append('{}');
      return;
    }
    output.append('{');
    for (const [index, node] of nodes.entries()) {
      output.append(`${index === 0 ? '' : ','}\n    ${jsonString(node)}: {`);
      let isFirst = true;
      for (const change of CHANGES) {
        const spool = this.#spools.get(JSON.stringify([node, change]));
        if (spool === undefined) continue;
        output.append(`${isFirst ? '' : ','}\n      "${names[change]}": [\n`);
        isFirst = false;
        await output.appendFile(spool);
        output.append('\n      ]');
      }
      output.append('\n    }');
    }
    output.append('\n  }');
  }
}

/** Rows in a repair report have their columns by name, as Go writes a map. */
function rowFormatter(
  columns: readonly ReportColumn[],
): (values: readonly (string | null)[]) => string {
  const sorted = columns
    .map((column, index) => ({ ...column, index, format: jsonFormatter(column.baseTypeOid) }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((column) => ({ ...column, prefix: `          ${jsonString(column.name)}: ` }));
  return (values) => {
    const members = sorted.map(({ index, format, prefix }) => {
      const value = values[index] ?? null;
      return prefix + (value === null ? 'null' : format(value));
    });
    return `        {\n${members.join(',\n')}\n        }`;
  };
}
