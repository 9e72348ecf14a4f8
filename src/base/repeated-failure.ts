import { steadyNowMs } from './clock.js';
const REPEAT_MS = 300_000;

/** The same failure again and again is one event, told anew now and then. */
export class RepeatedFailure {
  readonly #repeatMs: number;
  #told: { readonly what: string; readonly atMs: number } | null = null;
  #isQuiet = false;

  constructor(repeatMs = REPEAT_MS) {
    this.#repeatMs = repeatMs;
  }

  /** Some failure was told, and it is not over. */
  get isTold(): boolean {
    return this.#told !== null;
  }

  /** What happens now was told before. */
  get isQuiet(): boolean {
    return this.#isQuiet;
  }

  /** Returns whether it is to be told; `isNews`: even if it was told before. */
  note(what: string, { isNews = false } = {}): boolean {
    const nowMs = steadyNowMs();
    const isKnown = this.#told?.what === what && nowMs - this.#told.atMs < this.#repeatMs;
    this.#isQuiet = isKnown && !isNews;
    if (!this.#isQuiet) this.#told = { what, atMs: nowMs };
    return !this.#isQuiet;
  }

  /** It is over. */
  end(): void {
    this.#told = null;
    this.#isQuiet = false;
  }
}
