import { closeSync, fstatSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import { errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { DriftEvent } from './drift-event.js';

const MAX_BYTES = 16 * 1024 ** 2;
/** Older files, `.1` the youngest. */
const KEPT_FILES = 4;

/**
 * A copy of the drift events, a JSON object a line, since a log may be dropped or limited on its way.
 * Openings and closings are on disk when the call returns. A file that cannot be written is said once,
 * and tried again with the next event: the log has them all the same.
 */
export class EventFile {
  readonly #path: string;
  readonly #log: Logger;
  readonly #maxBytes: number;
  #isFailing = false;

  constructor(path: string, log: Logger, maxBytes = MAX_BYTES) {
    this.#path = path;
    this.#log = log;
    this.#maxBytes = maxBytes;
  }

  append({ level, fields, message }: DriftEvent, isMilestone: boolean): void {
    const line = JSON.stringify({ time: new Date().toISOString(), level, ...fields, msg: message });
    try {
      this.#write(`${line}\n`, isMilestone);
      this.#isFailing = false;
    } catch (error) {
      if (!this.#isFailing) {
        const facts = { event: 'events_file_failed', path: this.#path };
        this.#log.warn(facts, `drift events are in the log only: ${errorMessage(error)}`);
      }
      this.#isFailing = true;
    }
  }

  #write(line: string, isMilestone: boolean): void {
    // Opened each time: whoever rotates or removes the file need not tell us.
    const file = openSync(this.#path, 'a', 0o640);
    let bytes: number;
    try {
      writeSync(file, line);
      if (isMilestone) fsyncSync(file);
      bytes = fstatSync(file).size;
    } finally {
      closeSync(file);
    }
    if (bytes >= this.#maxBytes) this.#rotate();
  }

  #rotate(): void {
    for (let number = KEPT_FILES - 1; number >= 1; number--) {
      try {
        renameSync(`${this.#path}.${number}`, `${this.#path}.${number + 1}`);
      } catch (error) {
        if (!isMissing(error)) throw error;
      }
    }
    renameSync(this.#path, `${this.#path}.1`);
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
