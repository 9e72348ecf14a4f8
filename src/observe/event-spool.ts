import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

/** An event that waits to be handed on. */
export interface SpooledEvent {
  readonly file: string;
  /** Names the event at the receiver, who may get it twice: incident and revision. */
  readonly key: string;
  readonly event: string;
  readonly incident: string;
  /** One JSON object. */
  readonly text: string;
}

export interface SpoolOptions {
  readonly directory: string;
  readonly maxEvents: number;
  /** Those that had to go, oldest first, for want of room. */
  readonly onDropped: (count: number) => void;
  /** An event could not be written: it is kept in memory only. */
  readonly onUnwritten: (error: unknown) => void;
}

const NAME_LENGTH = 12;
/** Each event carries the whole state: a newer one says all that these did. */
const SUPERSEDED: ReadonlySet<string> = new Set(['drift_updated', 'drift_reminder']);

/** Events in the order they were told, a file each, so that they outlive the process, however it ends. */
export class EventSpool {
  readonly #options: SpoolOptions;
  readonly #events: SpooledEvent[] = [];
  #next = 1;

  constructor(options: SpoolOptions) {
    this.#options = options;
    try {
      this.#restore(options.directory);
    } catch (error) {
      options.onUnwritten(error);
    }
    this.#next = Number(this.#events.at(-1)?.file.slice(0, NAME_LENGTH) ?? 0) + 1;
  }

  #restore(directory: string): void {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    for (const name of readdirSync(directory).sort()) {
      const path = join(directory, name);
      const read = name.endsWith('.json') ? readEvent(name, readFileSync(path, 'utf8')) : null;
      // Half written when the last process ended: the event is in the log.
      if (read === null) rmSync(path, { force: true });
      else this.#events.push(read);
    }
  }

  get size(): number {
    return this.#events.length;
  }

  /** The oldest; undefined: there is none. */
  get first(): SpooledEvent | undefined {
    return this.#events[0];
  }

  add(fields: Readonly<Record<string, unknown>>): void {
    const { directory, maxEvents, onDropped, onUnwritten } = this.#options;
    const file = `${String(this.#next++).padStart(NAME_LENGTH, '0')}.json`;
    const added = readEvent(file, JSON.stringify(fields));
    if (added === null || this.#events.some(({ key }) => key === added.key)) return;
    // Not the first: it may be on its way.
    const old = this.#events.filter(
      ({ incident, event }, at) => at > 0 && incident === added.incident && SUPERSEDED.has(event),
    );
    for (const one of old) this.remove(one);
    try {
      const path = join(directory, file);
      writeFileSync(`${path}.new`, added.text, { mode: 0o600, flush: true });
      renameSync(`${path}.new`, path);
    } catch (error) {
      onUnwritten(error);
    }
    this.#events.push(added);
    const excess = this.#events.slice(0, Math.max(0, this.#events.length - maxEvents));
    for (const one of excess) this.remove(one);
    if (excess.length > 0) onDropped(excess.length);
  }

  remove(event: SpooledEvent): void {
    const at = this.#events.indexOf(event);
    if (at !== -1) this.#events.splice(at, 1);
    rmSync(join(this.#options.directory, event.file), { force: true });
  }
}

function readEvent(file: string, text: string): SpooledEvent | null {
  try {
    const fields = JSON.parse(text) as Readonly<Record<string, unknown>>;
    const { event, incident, revision } = fields;
    const name = String(event);
    const id = typeof incident === 'string' ? incident : file;
    const key = `${id}/${typeof revision === 'number' ? revision : file}`;
    return { file, key, event: name, incident: id, text };
  } catch {
    return null;
  }
}
