import type { KeyText } from '../table/table-spec.js';

/**
 * What a repair has written to nodes that it comes back to: there a row is not what the diff saw any
 * more, and yet nobody else has touched it.
 */
export class OwnWrites {
  /** Node -> key -> digest; null: deleted. */
  readonly #rows = new Map<string, Map<string, string | null>>();

  record(node: string, key: KeyText, digest: string | null): void {
    let rows = this.#rows.get(node);
    if (rows === undefined) {
      rows = new Map();
      this.#rows.set(node, rows);
    }
    rows.set(JSON.stringify(key), digest);
  }

  /** The row is as this repair left it. */
  has(node: string, key: KeyText, digest: string | null): boolean {
    return this.#rows.get(node)?.get(JSON.stringify(key)) === digest;
  }
}
