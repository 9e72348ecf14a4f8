import { emitKeypressEvents } from 'node:readline';

/** A key as node:readline names it. */
export interface Key {
  readonly name?: string | undefined;
  readonly ctrl?: boolean;
  readonly sequence?: string | undefined;
}

export interface ScreenOptions {
  readonly input: NodeJS.ReadStream;
  readonly output: NodeJS.WriteStream;
  readonly onKey: (key: Key) => void;
  /** Another size, or back from the background: what was drawn is gone. */
  readonly onRedraw: () => void;
  /** The terminal is gone, or hangs up. */
  readonly onGone: () => void;
}

const ESC = '\u001b[';
/** The other screen, no cursor, no wrapping: a line of a doubtful width then spoils only itself. */
const ENTER = `${ESC}?1049h${ESC}?25l${ESC}?7l${ESC}2J`;
const LEAVE = `${ESC}0m${ESC}?7h${ESC}?25h${ESC}?1049l`;
/** A process whose group nobody can continue is not stopped by the signal that would. */
const STOP_GRACE_MS = 200;

/** The whole terminal, until `leave`, which gives it back as it was; so does every end of the process. */
export class Screen {
  readonly #options: ScreenOptions;
  #isEntered = false;
  #hasLeft = false;
  #drawn = '';

  constructor(options: ScreenOptions) {
    this.#options = options;
  }

  enter(): void {
    const { input, output, onKey, onRedraw, onGone } = this.#options;
    emitKeypressEvents(input);
    input.on('keypress', (_: string | undefined, key: Key) => {
      if (key.ctrl === true && key.name === 'z') process.kill(0, 'SIGTSTP');
      else onKey(key);
    });
    input.on('end', onGone);
    input.on('error', onGone);
    output.on('resize', this.#redraw);
    process.on('exit', this.#restore);
    process.on('SIGHUP', onGone);
    process.on('SIGTSTP', this.#stop);
    process.on('SIGCONT', this.#resume);
    input.resume();
    this.#takeOver();
    onRedraw();
  }

  /** As many lines as there are rows. Each is cleared first: the cursor stays on a last column. */
  draw(lines: readonly string[]): void {
    if (!this.#isEntered) return;
    const text = `${ESC}H${lines.map((line) => `${ESC}K${line}`).join('\r\n')}`;
    if (text === this.#drawn) return;
    this.#drawn = text;
    this.#options.output.write(text);
  }

  /** Draws anew even what has not changed. */
  forget(): void {
    this.#drawn = '';
  }

  leave(): void {
    const { input, output, onGone } = this.#options;
    this.#hasLeft = true;
    this.#restore();
    input.removeAllListeners('keypress');
    input.off('end', onGone);
    output.off('resize', this.#redraw);
    process.off('exit', this.#restore);
    process.off('SIGHUP', onGone);
    process.off('SIGTSTP', this.#stop);
    process.off('SIGCONT', this.#resume);
    // Else the process would wait for keys.
    input.pause();
  }

  #takeOver(): void {
    this.#isEntered = true;
    this.#drawn = '';
    this.#options.input.setRawMode(true);
    this.#options.output.write(ENTER);
  }

  readonly #restore = (): void => {
    if (!this.#isEntered) return;
    this.#isEntered = false;
    this.#options.input.setRawMode(false);
    this.#options.output.write(LEAVE);
  };

  readonly #redraw = (): void => {
    this.#drawn = '';
    this.#options.onRedraw();
  };

  /** The terminal is the shell's while we are stopped. */
  readonly #stop = (): void => {
    this.#restore();
    process.off('SIGTSTP', this.#stop);
    process.kill(process.pid, 'SIGTSTP');
    setTimeout(this.#resume, STOP_GRACE_MS);
  };

  readonly #resume = (): void => {
    if (this.#isEntered || this.#hasLeft) return;
    process.on('SIGTSTP', this.#stop);
    this.#takeOver();
    this.#options.onRedraw();
  };
}
