import { escapeControls } from '../base/escape-controls.js';
import type { ProgressEvent } from '../protocol/commands.js';
import type { OutcomeLine } from './outcome-lines.js';

export interface OutputStream {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  /** Of the terminal; undefined: it is none. */
  readonly columns?: number | undefined;
}

export interface TerminalOptions {
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  readonly env: NodeJS.ProcessEnv;
  /** Lines for a person go to stderr: stdout is the JSON object's. */
  readonly isJson: boolean;
  readonly isQuiet: boolean;
  /** For tests. */
  readonly nowMs?: () => number;
}

const BAR_WIDTH = 20;
const REDRAW_MS = 100;
/** Where nobody watches, a log gets a line now and then. */
const PLAIN_INTERVAL_MS = 5_000;
const CLEAR_LINE = '\r\u001b[K';
const COLOURS = { red: 31, green: 32, yellow: 33 } as const;

/** Everything that acectl prints. */
export class Terminal {
  readonly #options: TerminalOptions;
  readonly #now: () => number;
  #phase: { name: string; startedMs: number; shownMs: number } | undefined;
  #hasBar = false;
  /** Warnings shown while the command ran: its result has them again. */
  readonly #told = new Set<string>();

  constructor(options: TerminalOptions) {
    this.#options = options;
    this.#now = options.nowMs ?? (() => performance.now());
  }

  /** An event while a command runs. */
  event(event: ProgressEvent): void {
    if (event.type === 'log') {
      this.line({ level: event.level, text: event.message });
      this.#told.add(event.message);
    } else if (event.type === 'drift') {
      this.#options.stdout.write(`${escapeControls(JSON.stringify(event.fields))}\n`);
    } else if (!this.#options.isQuiet) this.#progress(event);
  }

  line({ level, text }: OutcomeLine): void {
    const { isJson, isQuiet, stdout, stderr } = this.#options;
    if (isQuiet || this.#told.has(text)) return;
    this.#clearBar();
    const stream = isJson ? stderr : stdout;
    if (level === 'plain') stream.write(`${text}\n`);
    else if (level === 'info') {
      stream.write(`INFO ${text.startsWith('✔') ? this.#colour(stream, 'green', text) : text}\n`);
    } else {
      const body = text.startsWith('✘') ? this.#colour(stream, 'red', text) : text;
      stream.write(`${this.#colour(stream, 'yellow', 'WARN')} ${body}\n`);
    }
  }

  /** What must be seen even when quiet. */
  urgent(label: 'WARN' | 'ERROR' | 'HINT', text: string): void {
    this.#clearBar();
    const { stderr } = this.#options;
    const shown = label === 'ERROR' ? this.#colour(stderr, 'red', label) : label;
    stderr.write(`${shown} ${text}\n`);
  }

  json(value: unknown): void {
    this.#clearBar();
    this.#options.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
  }

  /** Nothing without --json: there an error must be told from an empty answer. */
  jsonError(error: {
    readonly code: string;
    readonly message: string;
    readonly hint: string | null;
  }): void {
    if (this.#options.isJson) this.json({ error });
  }

  text(text: string): void {
    this.#options.stdout.write(text);
  }

  /** Leaves the cursor on a line of its own. */
  done(): void {
    this.#clearBar();
    this.#phase = undefined;
  }

  #progress({ phase, done, total }: Extract<ProgressEvent, { type: 'progress' }>): void {
    const nowMs = this.#now();
    const { stderr } = this.#options;
    const isTty = stderr.isTTY === true;
    if (this.#phase?.name !== phase) {
      this.#clearBar();
      // On a terminal the first one shows at once, in a log only what takes a while does.
      this.#phase = { name: phase, startedMs: nowMs, shownMs: isTty ? -Infinity : nowMs };
    }
    const isDue = nowMs - this.#phase.shownMs >= (isTty ? REDRAW_MS : PLAIN_INTERVAL_MS);
    if (!isDue && !(isTty && done >= total)) return;
    this.#phase.shownMs = nowMs;
    const elapsedMs = nowMs - this.#phase.startedMs;
    const line = progressLine({ phase, done, total, elapsedMs, columns: stderr.columns });
    stderr.write(isTty ? `${CLEAR_LINE}${line}` : `${phase}: ${done} / ${total}\n`);
    this.#hasBar = isTty;
  }

  #clearBar(): void {
    if (!this.#hasBar) return;
    this.#hasBar = false;
    this.#options.stderr.write(CLEAR_LINE);
  }

  #colour(stream: OutputStream, colour: keyof typeof COLOURS, text: string): string {
    // https://no-color.org: any value but the empty one.
    const isOff = (this.#options.env['NO_COLOR'] ?? '') !== '';
    if (isOff || stream.isTTY !== true) return text;
    return `\u001b[${COLOURS[colour]}m${text}\u001b[0m`;
  }
}

/** `Hashing initial ranges: 171 / 177 [====>--] 1s | 0s`: time gone, time to go. */
export function progressLine(progress: {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
  readonly elapsedMs: number;
  /** Of the terminal: a line that does not fit would begin a new one with every refresh. */
  readonly columns?: number | undefined;
}): string {
  const { phase, done, total, elapsedMs, columns = Infinity } = progress;
  const share = total > 0 ? Math.min(1, Math.max(0, done / total)) : 1;
  const filled = Math.round(share * BAR_WIDTH);
  const bar =
    filled === BAR_WIDTH
      ? '='.repeat(BAR_WIDTH)
      : `${'='.repeat(filled)}>`.padEnd(BAR_WIDTH, '-').slice(0, BAR_WIDTH);
  const leftMs = share > 0 ? elapsedMs / share - elapsedMs : undefined;
  const left = leftMs === undefined ? '?' : shortTime(leftMs);
  const head = `${phase}: ${done} / ${total}`;
  const times = `${shortTime(elapsedMs)} | ${left}`;
  const forms = [`${head} [${bar}] ${times}`, `${head} ${times}`, head];
  // The last column is the cursor's.
  return forms.find(({ length }) => length < columns) ?? head.slice(0, columns - 1);
}

function shortTime(ms: number): string {
  const seconds = Math.round(ms / 1000);
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${seconds % 60}s`;
  return `${Math.floor(minutes / 60)}h${minutes % 60}m`;
}
