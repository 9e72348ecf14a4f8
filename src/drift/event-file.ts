import {
  closeSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  writeSync,
} from 'node:fs';
import { errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { eventLine, type DriftEvent } from './drift-event.js';

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

  append(event: DriftEvent, isMilestone: boolean): void {
    try {
      this.#write(`${eventLine(event, new Date())}\n`, isMilestone);
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
    const file = openSync(this.#path, 'a+', 0o640);
    let bytes: number;
    try {
      const { size } = fstatSync(file);
      writeWhole(file, `${endsWithin(file, size) ? '\n' : ''}${line}`, size);
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

/** All of it or nothing: where the disk fills up a part of it is written, without an error. */
function writeWhole(file: number, text: string, sizeBefore: number): void {
  const bytes = Buffer.from(text);
  try {
    for (let written = 0; written < bytes.length;) written += writeSync(file, bytes, written);
  } catch (error) {
    ftruncateSync(file, sizeBefore);
    throw error;
  }
}

/** Whether the last line has no end: the process that wrote it was killed. */
function endsWithin(file: number, size: number): boolean {
  if (size === 0) return false;
  const last = Buffer.alloc(1);
  readSync(file, last, 0, 1, size - 1);
  return last.toString() !== '\n';
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ENOENT';
}
