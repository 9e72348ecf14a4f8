import { AcedError } from '../base/errors.js';

interface Waiting {
  readonly begin: () => void;
}

/** So many commands run at a time. */
export class Turns {
  readonly #max: number;
  #taken = 0;
  readonly #waiting = new Set<Waiting>();

  constructor(max: number) {
    this.#max = max;
  }

  /** Returns what ends the turn. Errors: BUSY. */
  take(): () => void {
    if (this.#taken < this.#max) return this.#begin();
    throw new AcedError('BUSY', `aced runs ${this.#taken} commands already`, {
      hint: 'Wait until one has ended, or raise max_commands.',
    });
  }

  /** As take, once one is free: who came first is first. Errors: CANCELLED. */
  async wait(signal: AbortSignal): Promise<() => void> {
    if (this.#taken < this.#max) return this.#begin();
    return new Promise((resolve, reject) => {
      const give = (): void => {
        this.#waiting.delete(waiting);
        reject(new AcedError('CANCELLED', 'cancelled before its turn'));
      };
      const waiting = {
        begin: () => {
          signal.removeEventListener('abort', give);
          resolve(this.#begin());
        },
      };
      this.#waiting.add(waiting);
      signal.addEventListener('abort', give, { once: true });
    });
  }

  #begin(): () => void {
    this.#taken += 1;
    return () => {
      this.#taken -= 1;
      const [next] = this.#waiting;
      if (next === undefined) return;
      this.#waiting.delete(next);
      next.begin();
    };
  }
}
