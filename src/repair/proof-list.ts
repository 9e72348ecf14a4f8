/** What the diff saw of rows, by place: a text each, or none. */
export interface ProofList {
  /** Null: no row. */
  set(place: number, proof: string | null): void;
  get(place: number): string | null;
  has(place: number): boolean;
  /** The proof at one place stands for the row at another too. */
  copy(from: number, to: number): void;
}

const FIRST_SIZE = 1_024;

/**
 * Digests, 16 hexadecimal digits each, which come out as signed decimals: eight bytes of a row, for a file may hold
 * millions, where a string takes four times as much.
 */
export class DigestList implements ProofList {
  #digests = new BigInt64Array(FIRST_SIZE);
  /** 1: there is one. */
  #known = new Uint8Array(FIRST_SIZE);

  set(place: number, proof: string | null): void {
    if (place >= this.#known.length) this.#grow(place + 1);
    this.#known[place] = proof === null ? 0 : 1;
    if (proof !== null) this.#digests[place] = BigInt.asIntN(64, BigInt(`0x${proof}`));
  }

  get(place: number): string | null {
    return this.has(place) ? String(this.#digests[place]) : null;
  }

  has(place: number): boolean {
    return this.#known[place] === 1;
  }

  copy(from: number, to: number): void {
    if (to >= this.#known.length) this.#grow(to + 1);
    this.#known[to] = this.#known[from] ?? 0;
    this.#digests[to] = this.#digests[from] ?? 0n;
  }

  #grow(least: number): void {
    const size = Math.max(least, this.#known.length * 2);
    const digests = new BigInt64Array(size);
    digests.set(this.#digests);
    const known = new Uint8Array(size);
    known.set(this.#known);
    this.#digests = digests;
    this.#known = known;
  }
}

/** Whatever stands for a row's values. */
export class TextList implements ProofList {
  readonly #texts: (string | null)[] = [];

  set(place: number, proof: string | null): void {
    this.#texts[place] = proof;
  }

  get(place: number): string | null {
    return this.#texts[place] ?? null;
  }

  has(place: number): boolean {
    return this.get(place) !== null;
  }

  copy(from: number, to: number): void {
    this.set(to, this.get(from));
  }
}
