import { logMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { Loop } from '../base/loop.js';
import { RepeatedFailure } from '../base/repeated-failure.js';
import type { Reign } from '../lease/lease.js';
import type { InheritedTable, Store } from '../store/store.js';
import type { StoreIdentity } from '../store/meta.js';

const BACKOFF = { firstMs: 100, maxMs: 1_000 };
/** Whether a table's tree is another one; a command that makes one waits until it is written. */
const LOOK_MS = 5_000;
const STATE = 'state';

interface InheritedState extends StoreIdentity {
  readonly isInitialised: boolean;
}

/** What the one before has left; name -> JSON. */
export type Inheritance = ReadonlyMap<string, string>;

/** What of it is about `kind`, in no order. */
function inherited<T>(inheritance: Inheritance, kind: string): T[] {
  return Array.from(inheritance)
    .filter(([name]) => name.startsWith(`${kind} `))
    .map(([, body]) => JSON.parse(body) as T);
}

/**
 * Makes the state file the successor's of what was left. A file that was the active one's until just
 * now stays: it knows more. Of any other one nothing is kept: what it says may long be over, and of a
 * position only, not of what was done to slot and publication meanwhile, the nodes could tell.
 */
export function succeed(store: Store, inheritance: Inheritance, epoch: number): void {
  const left = inheritance.get(STATE);
  if (left !== undefined && store.meta.epoch !== epoch - 1) {
    const { isInitialised, ...identity } = JSON.parse(left) as InheritedState;
    store.succeed(identity, inherited<InheritedTable>(inheritance, 'table').map(asFollowed));
    store.setInitialised(isInitialised);
    for (const [schema, name] of inherited<[string, string]>(inheritance, 'auto')) {
      store.kept.addAutoTable(schema, name);
    }
  }
  store.meta.setEpoch(epoch);
}

/** Its tree is built anew; one that was not finished is its user's to repeat, as after a restart. */
function asFollowed(table: InheritedTable): InheritedTable {
  const isWhole = table.state === 'live' || table.state === 'stale';
  return isWhole
    ? { ...table, state: 'stale', reason: 'taken over: it is read again' }
    : { ...table, state: 'failed', reason: table.reason ?? 'another aced took over' };
}

/**
 * What the active one leaves to whoever comes after it, in the lease's database: written before it is
 * told. Nothing is told, and nothing kept, from the moment on at which the lease is somebody else's.
 */
export class Handover {
  readonly #reign: Reign;
  readonly #store: Store;
  readonly #loop: Loop;
  readonly #failure = new RepeatedFailure();
  /** As the database has it. */
  readonly #written: Map<string, string>;
  #changes = new Map<string, string | null>();
  #tells: (() => void)[] = [];
  readonly #waiting = new Set<() => void>();
  #round = 0;

  constructor(reign: Reign, { store, log, inheritance }: HandoverOptions) {
    this.#reign = reign;
    this.#store = store;
    this.#written = new Map(inheritance);
    this.#loop = Loop.start({
      backoff: BACKOFF,
      round: async () => {
        await this.#write();
        return LOOK_MS;
      },
      onFailure: (error) => {
        const message = logMessage(error);
        const level = this.#failure.note(message) ? 'warn' : 'debug';
        log[level]({ event: 'handover_failed' }, message);
      },
      onRecovery: () => this.#failure.end(),
    });
  }

  /** Parts that were left and are of this kind, parsed. */
  inherited<T>(kind: string): T[] {
    return inherited<T>(this.#written, kind);
  }

  /** To be kept under this name; null: no longer. */
  keep(name: string, value: unknown): void {
    this.#changes.set(name, value === null ? null : JSON.stringify(value));
    this.#loop.wake();
  }

  /** Calls `tell` once what was kept so far is durable. */
  then(tell: () => void): void {
    this.#tells.push(tell);
    this.#loop.wake();
  }

  /** Resolves once all that holds now is durable and told. */
  async settled(): Promise<void> {
    const settled = new Promise<void>((resolve) => {
      const round = this.#round;
      const note = (): void => {
        if (this.#round <= round) return;
        this.#waiting.delete(note);
        resolve();
      };
      this.#waiting.add(note);
    });
    this.#loop.wake();
    await settled;
  }

  async stop(): Promise<void> {
    await this.settled();
    await this.#loop.stop();
  }

  async #write(): Promise<void> {
    const changes = new Map(
      [...this.#stateChanges(), ...this.#changes].filter(
        ([name, body]) => (this.#written.get(name) ?? null) !== body,
      ),
    );
    const tells = this.#tells;
    this.#changes = new Map();
    this.#tells = [];
    this.#round += 1;
    try {
      if (changes.size > 0) await this.#reign.writeHandover(changes);
    } catch (error) {
      this.#changes = new Map([...changes, ...this.#changes]);
      this.#tells = [...tells, ...this.#tells];
      throw error;
    }
    for (const [name, body] of changes) {
      if (body === null) this.#written.delete(name);
      else this.#written.set(name, body);
    }
    for (const tell of tells) {
      this.#reign.require();
      tell();
    }
    for (const note of [...this.#waiting]) note();
    if (this.#waiting.size > 0 || this.#changes.size > 0) this.#loop.wake();
  }

  /** What of the state file is others than the database has. */
  #stateChanges(): Map<string, string | null> {
    const store = this.#store;
    const isInitialised = store.isInitialised();
    // Before mtree init there is nothing to leave: a state that has more must not lose it.
    if (!isInitialised && !this.#written.has(STATE)) return new Map();
    const now = new Map<string, string>();
    const state: InheritedState = { ...store.meta.identity, isInitialised };
    now.set(STATE, JSON.stringify(state));
    for (const { role, spec, blockRows, state: tree, reason } of store.tables()) {
      if (role !== 'current') continue;
      const table: InheritedTable = { spec, blockRows, state: tree, reason };
      now.set(`table ${spec.schema}.${spec.name}`, JSON.stringify(table));
    }
    for (const auto of store.kept.autoTables()) now.set(`auto ${auto}`, auto);
    const gone = [...this.#written.keys()].filter(
      (name) => /^(table|auto) /.test(name) && !now.has(name),
    );
    return new Map<string, string | null>([...now, ...gone.map((name) => [name, null] as const)]);
  }
}

export interface HandoverOptions {
  readonly store: Store;
  readonly log: Logger;
  readonly inheritance: Inheritance;
}
