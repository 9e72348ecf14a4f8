import { sleep } from '../base/abort.js';
import { shownTime, steadyNowMs } from '../base/clock.js';
import { parseDuration } from '../base/duration.js';
import { AcedError, errorMessage } from '../base/errors.js';
import type { TopParams, TopResult } from '../protocol/top.js';
import { usage, type FlagValues } from './flags.js';
import { EXIT_DONE, EXIT_TROUBLE } from './outcome-lines.js';
import { exitCodeOfStatus } from './outcome.js';
import { Screen, type Key } from './screen.js';
import { mapCells, paint, renderTop, worstFirst } from './top-frame.js';
import { TopHistory, type Reading } from './top-history.js';

export interface TopOptions {
  readonly flags: FlagValues;
  readonly env: NodeJS.ProcessEnv;
  readonly tty: Tty;
  readonly signal: AbortSignal;
  readonly print: (text: string) => void;
  readonly printJson: (value: unknown) => void;
  /** Asks the daemon. Errors: DAEMON_UNREACHABLE when there is none. */
  readonly ask: (params: TopParams, signal: AbortSignal) => Promise<TopResult>;
}

/** Where this process reads and writes; what is no terminal has no size. */
export interface Tty {
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
}

const DEFAULT_INTERVAL_MS = 1_000;
const DEFAULT_COLUMNS = 80;
/** Without an answer for so long, or for three intervals, the screen says so. */
const PATIENCE_MS = 3_000;

/** `acectl top`. Returns the exit code: with --once that of `status`. Errors: BAD_USAGE, those of `ask`. */
export async function top(options: TopOptions): Promise<number> {
  const { flags, tty, env } = options;
  const isOnce = flags.get('once') === true;
  if (isOnce) return once(options);
  if (flags.get('json') === true) {
    throw usage('--json is for top --once', 'Give both, or use acectl status --json.');
  }
  const isTerminal = tty.input.isTTY && tty.output.isTTY && env['TERM'] !== 'dumb';
  if (isTerminal) return new LiveTop(options).run();
  throw usage(
    'acectl top needs a terminal that it can draw on and read keys from',
    'Give --once for one frame as text; programs read acectl status --json.',
  );
}

/** Two answers, an interval apart: one alone tells no rates. */
async function once({ flags, env, tty, signal, print, printJson, ask }: TopOptions) {
  const history = new TopHistory();
  const columns =
    sizeOf(env['COLUMNS']) ?? (tty.output.isTTY ? tty.output.columns : DEFAULT_COLUMNS);
  const first = readingOf(await ask({}, signal));
  history.add(first);
  await sleep(intervalOf(flags), signal);
  const table = worstFirst(first)[0]?.table;
  const result = await ask({ ...chosen(table), cells: mapCells(columns) }, signal);
  const reading = readingOf(result);
  history.add(reading);
  if (flags.get('json') === true) printJson(result);
  else if (flags.get('quiet') !== true) {
    const { lines } = renderTop({
      reading,
      history,
      columns,
      rows: sizeOf(env['LINES']) ?? Infinity,
      selected: table ?? null,
      notice: null,
      isLive: false,
    });
    print(
      `${paint(lines, hasColour(flags, env, tty.output))
        .join('\n')
        .trimEnd()}\n`,
    );
  }
  return exitCodeOfStatus(result);
}

class LiveTop {
  readonly #options: TopOptions;
  readonly #history = new TopHistory();
  readonly #screen: Screen;
  readonly #intervalMs: number;
  /** Of the asking that is going on; null: none is. */
  #asking: AbortController | null = null;
  #reading: Reading | null = null;
  #failure: string | null = null;
  #selected: string | null = null;
  #pageRows = 1;
  #end: (exitCode: number) => void = () => undefined;

  constructor(options: TopOptions) {
    this.#options = options;
    this.#intervalMs = intervalOf(options.flags);
    this.#screen = new Screen({
      ...options.tty,
      onKey: (key) => this.#key(key),
      onRedraw: () => this.#draw(),
      onGone: () => this.#end(EXIT_TROUBLE),
    });
  }

  async run(): Promise<number> {
    const { signal } = this.#options;
    // Whatever is wrong from the beginning is told as of any command.
    await this.#ask();
    const ended = new Promise<number>((resolve) => {
      this.#end = resolve;
      const onAbort = (): void => resolve(EXIT_TROUBLE);
      signal.addEventListener('abort', onAbort, { once: true });
      if (signal.aborted) onAbort();
    });
    this.#screen.enter();
    const tick = (): void => {
      void this.#askOrTell();
      this.#draw();
    };
    const timer = setInterval(tick, this.#intervalMs);
    try {
      tick();
      return await ended;
    } finally {
      clearInterval(timer);
      this.#screen.leave();
      this.#asking?.abort();
    }
  }

  async #ask(): Promise<void> {
    const asking = new AbortController();
    this.#asking = asking;
    const signal = AbortSignal.any([asking.signal, this.#options.signal]);
    const params = { ...chosen(this.#chosen), cells: mapCells(this.#columns) };
    try {
      const result = await this.#options.ask(params, signal);
      this.#reading = readingOf(result);
      this.#history.add(this.#reading);
      this.#failure = null;
    } finally {
      if (this.#asking === asking) this.#asking = null;
    }
  }

  /** One at a time; a daemon that went away is looked for again at the next. */
  async #askOrTell(): Promise<void> {
    if (this.#asking !== null) return;
    try {
      await this.#ask();
    } catch (error) {
      this.#failure = errorMessage(error);
    }
    this.#draw();
  }

  get #columns(): number {
    return this.#options.tty.output.columns;
  }

  /** The label of the table whose blocks are shown. */
  get #chosen(): string | undefined {
    if (this.#reading === null) return undefined;
    const tables = worstFirst(this.#reading);
    return (tables.find(({ table }) => table === this.#selected) ?? tables[0])?.table;
  }

  #key({ name, ctrl = false, sequence }: Key): void {
    if (sequence === 'q' || sequence === 'Q' || (ctrl && name === 'c')) this.#end(EXIT_DONE);
    else if (ctrl && name === 'l') {
      this.#screen.forget();
      this.#draw();
    } else if (name !== undefined && this.#reading !== null) {
      this.#choose(name, worstFirst(this.#reading));
    }
  }

  #choose(key: string, tables: readonly { readonly table: string }[]): void {
    const now = Math.max(
      0,
      tables.findIndex(({ table }) => table === this.#chosen),
    );
    const steps: Readonly<Record<string, number>> = {
      up: -1,
      k: -1,
      down: 1,
      j: 1,
      pageup: -this.#pageRows,
      pagedown: this.#pageRows,
      home: -Infinity,
      end: Infinity,
    };
    const step = steps[key];
    if (step === undefined) return;
    const next = Math.min(tables.length - 1, Math.max(0, now + step));
    // The first is the worst one, whichever that will be.
    this.#selected = next === 0 ? null : (tables[next]?.table ?? null);
    this.#draw();
    void this.#askOrTell();
  }

  #draw(): void {
    if (this.#reading === null) return;
    const { flags, env, tty } = this.#options;
    const { lines, pageRows } = renderTop({
      reading: this.#reading,
      history: this.#history,
      selected: this.#selected,
      columns: this.#columns,
      rows: tty.output.rows,
      notice: this.#notice(this.#reading),
      isLive: true,
    });
    this.#pageRows = pageRows;
    this.#screen.draw(paint(lines, hasColour(flags, env, tty.output)));
  }

  #notice({ steadyMs }: Reading): string | null {
    const silentMs = steadyNowMs() - steadyMs;
    const isSilent = silentMs > Math.max(PATIENCE_MS, 3 * this.#intervalMs);
    if (this.#failure === null && !isSilent) return null;
    const seconds = Math.round(silentMs / 1000);
    const why = this.#failure === null ? '' : `: ${this.#failure}`;
    return `aced is not answering; this is ${seconds} s old${why}`;
  }
}

function readingOf(result: TopResult): Reading {
  const steadyMs = steadyNowMs();
  return { steadyMs, atMs: shownTime(steadyMs).getTime(), result };
}

function chosen(table: string | undefined): { table?: string } {
  return table === undefined ? {} : { table };
}

function intervalOf(flags: FlagValues): number {
  const text = flags.get('interval');
  return (typeof text === 'string' ? parseDuration(text) : undefined) ?? DEFAULT_INTERVAL_MS;
}

/** https://no-color.org: any value but the empty one. */
function hasColour(
  flags: FlagValues,
  env: NodeJS.ProcessEnv,
  output: { readonly isTTY?: boolean },
): boolean {
  return flags.get('no-color') !== true && (env['NO_COLOR'] ?? '') === '' && output.isTTY === true;
}

function sizeOf(text: string | undefined): number | undefined {
  const size = Number(text ?? '');
  return Number.isInteger(size) && size > 0 ? size : undefined;
}

/** There is no such thing as a screen without a daemon. */
export function noDaemon(cluster: string, socketPaths: readonly string[]): AcedError {
  return new AcedError(
    'DAEMON_UNREACHABLE',
    `no aced for cluster ${cluster} listens on ${socketPaths.join(' or ')}`,
    { hint: `Start it with aced --cluster ${cluster}, or set ACED_SOCKET to its socket.` },
  );
}
