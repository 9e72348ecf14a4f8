/**
 * Sums of the digests of rows that were written, modulo 2^64 as in leaves: as they were, and as they
 * are. What was inserted was nothing before, what was deleted is nothing after.
 */
export class RowSums {
  #before = 0n;
  #after = 0n;

  /** Digests are signed decimals; undefined: there is no row. */
  add({ before, after }: { readonly before?: string; readonly after?: string }): void {
    if (before !== undefined) this.#before += BigInt(before);
    if (after !== undefined) this.#after += BigInt(after);
  }

  addAll(other: RowSums): void {
    this.#before += other.#before;
    this.#after += other.#after;
  }

  /** 16 hexadecimal digits each. */
  texts(): { readonly before: string; readonly after: string } {
    return { before: hexOf(this.#before), after: hexOf(this.#after) };
  }
}

function hexOf(sum: bigint): string {
  return BigInt.asUintN(64, sum).toString(16).padStart(16, '0');
}
