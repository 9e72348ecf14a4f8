import { randomBytes } from 'node:crypto';
import type { DigestSeed } from '../digest/digest-column.js';
import type { RunStatement } from './kept-states.js';

/** What makes digests comparable: see DigestSeed. */
export interface StoreIdentity {
  /** A signed 64-bit number. */
  readonly seed: string;
  readonly nullToken: string;
  readonly seedId: string;
}

/** Single values of the state file. */
export class Meta {
  readonly #run: RunStatement;
  #identity: StoreIdentity | null = null;

  constructor(run: RunStatement) {
    this.#run = run;
  }

  get(key: string): string | null {
    const row = this.#run('SELECT value FROM meta WHERE key = ?', (s) => s.get(key)) as
      { value: string } | undefined;
    return row?.value ?? null;
  }

  set(key: string, value: string): void {
    this.#run(
      `INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value`,
      (s) => s.run(key, value),
    );
  }

  remove(key: string): void {
    this.#run('DELETE FROM meta WHERE key = ?', (s) => s.run(key));
  }

  getOrCreate(key: string, create: () => string): string {
    const known = this.get(key);
    if (known !== null) return known;
    const value = create();
    this.set(key, value);
    return value;
  }

  get identity(): StoreIdentity {
    return (this.#identity ??= {
      seed: this.getOrCreate('seed', () => `0x${randomBytes(8).toString('hex')}`),
      nullToken: this.getOrCreate('null_token', () => randomBytes(16).toString('hex')),
      seedId: this.getOrCreate('seed_id', () => randomBytes(8).toString('hex')),
    });
  }

  /** Digests of before are not comparable with what comes. */
  setIdentity({ seed, nullToken, seedId }: StoreIdentity): void {
    this.set('seed', seed);
    this.set('null_token', nullToken);
    this.set('seed_id', seedId);
    this.#identity = null;
  }

  get seed(): DigestSeed {
    const { seed, nullToken } = this.identity;
    return { seed: BigInt.asIntN(64, BigInt(seed)), nullToken };
  }

  /** In which epoch of the lease this state was the active one's last; null: in none. */
  get epoch(): number | null {
    const epoch = this.get('epoch');
    return epoch === null ? null : Number(epoch);
  }

  setEpoch(epoch: number): void {
    this.set('epoch', String(epoch));
  }
}
