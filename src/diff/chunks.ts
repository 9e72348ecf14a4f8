/** Keys whose rows are fetched by one statement. */
export const KEYS_PER_STATEMENT = 500;

/** A list in pieces of `size` at most. */
export function chunksOf<T>(list: readonly T[], size: number): T[][] {
  const chunks: T[][] = [];
  for (let start = 0; start < list.length; start += size) {
    chunks.push(list.slice(start, start + size));
  }
  return chunks;
}
