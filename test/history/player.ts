import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { AcedError, errorMessage } from '../../src/base/errors.js';
import type {
  CommandName,
  CommandParams,
  CommandResults,
  DiffResult,
} from '../../src/protocol/commands.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { Daemon } from './daemon.js';
import { healTable } from './heal.js';
import { forgetFiles, judge, namedRows, show, without } from './judge.js';
import { compareLeaves } from './kept-leaves.js';
import { Oracle } from './oracle.js';
import { HistoryFailure, Tally } from './outcome.js';
import type { Playground, Servers } from './playground.js';
import { explain } from './reasons.js';
import type { History, Step } from './steps.js';
import { RANGES } from './tables.js';

const COMMAND_TIMEOUT_MS = 60_000;
/** A build waits for transactions that were open when it began; then a history's are ended. */
const OPEN_TRANSACTIONS_LAST_MS = 1_500;
const RETRIES = 5;
const BUSY_REST_MS = 10;
/** After any other step the tables may not be what their diff files say. */
const KEEPS_FILES: ReadonlySet<Step['kind']> = new Set(['check', 'repair', 'heal', 'kill']);

type Of<Kind extends Step['kind']> = Extract<Step, { kind: Kind }>;

/**
 * Plays a history on fresh databases. Returns what went wrong, null when nothing did. Counts
 * into `tally`.
 */
export async function play(
  servers: Servers,
  history: History,
  tally: Tally,
): Promise<HistoryFailure | null> {
  const startedAt = Date.now();
  const playground = await servers.open(history.tables);
  const directory = await scratchDirectory();
  const daemon = await Daemon.create(playground.mesh, directory, history.settings);
  const player = new Player(playground, daemon, tally);
  try {
    await player.begin(history.tables);
    for (const [at, step] of history.steps.entries()) {
      try {
        const began = performance.now();
        await player.step(step);
        tally.count(tally.msByLabel, step.label, performance.now() - began);
      } catch (error) {
        const failure = asFailure(error);
        failure.step = at;
        return failure;
      }
    }
    return null;
  } catch (error) {
    return asFailure(error);
  } finally {
    tally.histories += 1;
    tally.timeMs += Date.now() - startedAt;
    lastLog.text = daemon.log;
    await daemon.kill();
    tally.kills += daemon.kills;
    await playground.close();
    await removeDirectory(directory);
  }
}

/** Of the daemon that was killed last: shown with a failure. */
export const lastLog = { text: '' };

function asFailure(error: unknown): HistoryFailure {
  if (error instanceof HistoryFailure) return error;
  const failure = new HistoryFailure('command failed', errorMessage(error));
  if (error instanceof Error && error.stack !== undefined) failure.stack = error.stack;
  return failure;
}

class Player {
  readonly #playground: Playground;
  readonly #daemon: Daemon;
  readonly #tally: Tally;
  readonly #oracle: Oracle;
  #reviving: Promise<void> | undefined;
  /** Table -> the file of its last check, while its rows are those of the check. */
  readonly #files = new Map<string, string>();

  constructor(playground: Playground, daemon: Daemon, tally: Tally) {
    this.#playground = playground;
    this.#daemon = daemon;
    this.#tally = tally;
    this.#oracle = new Oracle(playground.sessions);
  }

  async begin(tables: readonly string[]): Promise<void> {
    await this.#daemon.start();
    await this.#ask('mtree-init', {});
    for (const table of tables) await this.#ask('mtree-build', { table });
  }

  async step(step: Step): Promise<void> {
    this.#tally.steps += 1;
    this.#tally.count(this.#tally.byLabel, step.label);
    if (!KEEPS_FILES.has(step.kind)) this.#files.clear();
    switch (step.kind) {
      case 'write':
        return this.#write(step);
      case 'drift':
        return this.#drift(step);
      case 'define':
        return this.#define(step);
      case 'open':
        return this.#open(step);
      case 'close':
        return this.#close(step);
      case 'pause':
        return this.#playground.pause(step.from, step.to);
      case 'resume':
        return this.#playground.resume();
      case 'refresh':
        return this.#playground.refreshSubscriptions();
      case 'check':
        return this.#check(step);
      case 'busy check':
        return this.#busyCheck(step);
      case 'verify':
        return this.#verify(step);
      case 'repair':
        return this.#repair(step);
      case 'heal':
        return this.#heal(step);
      case 'kill':
        return this.#kill(step);
      case 'restart server':
        return this.#restartServer(step);
      case 'leaves':
        return this.#leaves();
    }
  }

  async #write({ node, sql, label }: Of<'write'>): Promise<void> {
    const { main } = this.#playground.on(node);
    await main.query(sql).catch((error: unknown) => this.#refused(label, error));
    // After an error inside a block of statements the session is in a failed transaction.
    if (sql.startsWith('BEGIN')) await main.query('ROLLBACK');
  }

  async #drift({ node, sql, label }: Of<'drift'>): Promise<void> {
    await this.#playground
      .on(node)
      .drift.query(sql)
      .catch((error: unknown) => this.#refused(label, error));
  }

  async #define({ nodes, sql, label }: Of<'define'>): Promise<void> {
    await this.#playground.rest();
    const on = nodes.length === 0 ? this.#playground.mesh.names : nodes;
    await Promise.all(
      on.map((node) =>
        this.#playground
          .on(node)
          .main.query(sql)
          .catch((error: unknown) => this.#refused(label, error)),
      ),
    );
  }

  async #open({ node, sql, label }: Of<'open'>): Promise<void> {
    const session = this.#playground.on(node);
    if (session.isOpen) return;
    session.isOpen = true;
    await session.open
      .query(`BEGIN; ${sql}`)
      .catch((error: unknown) => this.#refused(label, error));
  }

  async #close({ node, how, label }: Of<'close'>): Promise<void> {
    const session = this.#playground.on(node);
    if (!session.isOpen) return;
    session.isOpen = false;
    await session.open.query(how).catch((error: unknown) => this.#refused(label, error));
  }

  #refused(label: string, error: unknown): void {
    if (!(error instanceof Error && 'code' in error)) throw error;
    this.#tally.count(this.#tally.refusedByLabel, `${label} ${String(error.code)}`);
  }

  async #check({ tables, method }: Of<'check'>): Promise<void> {
    await this.#playground.quiet();
    await forgetFiles(this.#daemon.reportDir);
    this.#files.clear();
    const outcomes = await Promise.allSettled(
      tables.map((table) => this.#checkTable(table, method)),
    );
    for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
  }

  async #checkTable(table: string, method: Of<'check'>['method']): Promise<void> {
    const expected = await this.#oracle.differences(table);
    const result = await this.#diff(table, method);
    if (result === null) return;
    const named = await namedRows(this.#daemon.reportDir, result);
    const [file] = result.files;
    if (file !== undefined && result.verdict === 'drift')
      this.#files.set(table, join(this.#daemon.reportDir, file));
    const { verdict } = result;
    for (const rows of named.values()) {
      for (const list of Object.values(rows)) this.#tally.rowsSeenDifferent += list.length;
    }
    judge({ table, method, expected, verdict, named });
    if (verdict === 'match' || verdict === 'drift') {
      this.#tally.count(this.#tally.verdicts, `${method} ${verdict}`);
      return;
    }
    await this.#explain(table, `${method} ${verdict}`, result.warnings.join('; '));
  }

  /** Null: it was refused, for a reason that is known. */
  async #diff(table: string, method: Of<'check'>['method']): Promise<DiffResult | null> {
    try {
      return await this.#ask(method, { table });
    } catch (error) {
      if (!(error instanceof AcedError)) throw error;
      await this.#explain(table, `${method} ${error.code}`, error.message);
      return null;
    }
  }

  /** Counts an answer that is none, or fails when nothing is known to be the reason. */
  async #explain(table: string, answer: string, said: string): Promise<void> {
    const reason = await explain(this.#playground, this.#oracle, table);
    if (reason === null) throw new HistoryFailure('unproved', `${answer} of ${table}: ${said}`);
    this.#tally.count(this.#tally.verdicts, `${answer} (${reason})`);
  }

  async #busyCheck({ table, writes }: Of<'busy check'>): Promise<void> {
    await this.#playground.quiet();
    const expected = await this.#oracle.differences(table);
    const state = { isDone: false };
    const load = this.#writeMeanwhile(writes, () => state.isDone);
    let result: DiffResult | null;
    try {
      result = await this.#diff(table, 'mtree-table-diff');
    } finally {
      state.isDone = true;
      await load;
    }
    if (result === null || expected === null) return;
    const method = 'mtree-table-diff under load';
    const { verdict } = result;
    const named = await namedRows(this.#daemon.reportDir, result);
    this.#tally.count(this.#tally.verdicts, `${method} ${verdict}`);
    const rest = without(expected, RANGES.busy);
    judge({ table, method, expected: rest, verdict, named });
  }

  async #verify({ table, writes }: Of<'verify'>): Promise<void> {
    await this.#playground.quiet();
    const state = { isDone: false };
    const load = this.#writeMeanwhile(writes, () => state.isDone);
    try {
      const { tables } = await this.#ask('mtree-verify', { table });
      for (const { wrong, wrongLeaves, provedLeaves } of tables) {
        this.#tally.leavesCompared += provedLeaves;
        if (wrongLeaves === 0) continue;
        throw new HistoryFailure('changes lost', `verify of ${table}: ${JSON.stringify(wrong)}`);
      }
    } catch (error) {
      if (!(error instanceof AcedError)) throw error;
      await this.#explain(table, `mtree-verify ${error.code}`, error.message);
    } finally {
      state.isDone = true;
      await load;
    }
  }

  /** Each node's in turn, again and again until it is enough; at least once. */
  async #writeMeanwhile(
    writes: readonly { readonly node: string; readonly sql: string }[],
    isEnough: () => boolean,
  ): Promise<void> {
    await Promise.all(
      this.#playground.mesh.names.map(async (node) => {
        const mine = writes.filter((one) => one.node === node);
        if (mine.length === 0) return;
        const { busy } = this.#playground.on(node);
        do {
          for (const { sql } of mine) {
            await busy.query(sql).catch((error: unknown) => this.#refused('load', error));
          }
          // A load that no reader can keep up with would only show that.
          await delay(BUSY_REST_MS);
        } while (!isEnough());
      }),
    );
  }

  async #repair({ table, source, label }: Of<'repair'>): Promise<void> {
    const inputPath = this.#files.get(table);
    if (inputPath === undefined) return;
    this.#files.delete(table);
    const result = await this.#ask(
      'table-repair',
      { table, sourceOfTruth: source },
      inputPath,
    ).catch(async (error: unknown) => {
      if (!(error instanceof AcedError)) throw error;
      await this.#explainRepair(table, error);
      return null;
    });
    if (result === null) return;
    const counts = Object.values(result.nodes);
    const isDone = counts.every(({ skipped, failed }) => skipped + failed === 0);
    this.#tally.count(this.#tally.byLabel, `${label} ${isDone ? 'done' : 'with rows left'}`);
    await this.#playground.quiet();
    const left = await this.#oracle.differences(table);
    if (isDone && left !== null && left.size > 0) {
      throw new HistoryFailure('repair untrue', `of ${table}: plain SQL still finds ${show(left)}`);
    }
  }

  async #explainRepair(table: string, error: AcedError): Promise<void> {
    const reason = await explain(this.#playground, this.#oracle, table);
    if (reason === null)
      throw new HistoryFailure('unproved', `repair of ${table}: ${error.message}`);
    this.#tally.count(this.#tally.byLabel, `table-repair ${error.code} (${reason})`);
  }

  async #heal({ table, source, label }: Of<'heal'>): Promise<void> {
    this.#files.delete(table);
    await this.#playground.rest();
    const differences = await this.#oracle.differences(table);
    if (differences === null || differences.size === 0) return;
    await healTable(this.#playground, table, source).catch((error: unknown) =>
      this.#refused(label, error),
    );
  }

  async #kill({ delayMs, writes, diff, failpoint }: Of<'kill'>): Promise<void> {
    const isOver = new AbortController();
    const load = this.#writeMeanwhile(writes, () => isOver.signal.aborted);
    const asked =
      diff === null
        ? Promise.resolve()
        : this.#daemon.run('mtree-table-diff', { table: diff }).then(
            () => undefined,
            () => undefined,
          );
    await delay(delayMs);
    await this.#daemon.kill();
    isOver.abort();
    await Promise.all([load, asked]);
    await this.#daemon.start(failpoint);
  }

  async #restartServer({ node, mode }: Of<'restart server'>): Promise<void> {
    this.#tally.serverRestarts += 1;
    const server = this.#playground.mesh.node(node);
    this.#playground.on(node).isOpen = false;
    await this.#playground.on(node).close();
    if (mode === 'kill') {
      await server.kill();
      await server.start();
    } else {
      await server.restart(mode);
    }
    await this.#playground.quiet();
  }

  async #leaves(): Promise<void> {
    await this.#playground.quiet();
    await this.#daemon.kill();
    this.#tally.leavesCompared += await compareLeaves(await this.#daemon.config());
    await this.#daemon.start();
  }

  /** Asks the daemon again when a failpoint has ended it; it is started without one then. */
  async #ask<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    inputPath?: string,
  ): Promise<CommandResults[Name]> {
    for (let attempt = 1; ; attempt++) {
      if (!this.#daemon.isRunning || this.#reviving !== undefined) await this.#revive();
      try {
        return await this.#askOnce(name, params, inputPath);
      } catch (error) {
        if (attempt >= RETRIES || !isCutOff(error)) throw error;
        // The socket closes a moment before the process is seen to have ended.
        if (this.#daemon.isFailpointArmed) await this.#revive();
      }
    }
  }

  /** Several questions may find it gone at once; one of them starts it. */
  async #revive(): Promise<void> {
    this.#reviving ??= this.#startAgain().finally(() => {
      this.#reviving = undefined;
    });
    return this.#reviving;
  }

  async #startAgain(): Promise<void> {
    await this.#daemon.ended();
    if (!this.#daemon.isFailpointArmed) {
      throw new HistoryFailure('daemon ended', this.#daemon.log);
    }
    await this.#daemon.start();
  }

  async #askOnce<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    inputPath?: string,
  ): Promise<CommandResults[Name]> {
    const patience = setTimeout(() => {
      void this.#playground.endOpen().catch(() => undefined);
    }, OPEN_TRANSACTIONS_LAST_MS);
    const signal = AbortSignal.timeout(COMMAND_TIMEOUT_MS);
    try {
      return await this.#daemon.run(name, params, {
        signal,
        ...(inputPath === undefined ? {} : { inputPath }),
      });
    } catch (error) {
      if (!signal.aborted) throw error;
      throw new HistoryFailure('command hangs', `${name} ${JSON.stringify(params)}`);
    } finally {
      clearTimeout(patience);
    }
  }
}

function isCutOff(error: unknown): boolean {
  return error instanceof AcedError && error.code === 'DAEMON_UNREACHABLE';
}
