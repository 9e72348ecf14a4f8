import type { KeyText } from '../table/table-spec.js';
import type { DriftedRow } from './settle.js';

/** Who takes rows that are proved to differ, as they are found. */
export interface DiffSink {
  /** One call at a time; within one block the rows come in key order. */
  take(rows: readonly DriftedRow[]): Promise<void>;
  /** It has no use for further rows. */
  readonly isFull: boolean;
}

/** Keeps the first keys. */
export class KeySink implements DiffSink {
  readonly keys: KeyText[] = [];
  /** Others decide about the end of the search. */
  readonly isFull = false;
  readonly #maxKeys: number;

  constructor(maxKeys: number) {
    this.#maxKeys = maxKeys;
  }

  take(rows: readonly DriftedRow[]): Promise<void> {
    const room = this.#maxKeys - this.keys.length;
    if (room > 0) this.keys.push(...rows.slice(0, room).map(({ key }) => key));
    return Promise.resolve();
  }
}
