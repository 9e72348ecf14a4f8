/**
 * What `work` makes of each item, in order. While the caller deals with one result the next is
 * under way, but no more than one: memory stays bounded. A caller that stops early, or fails,
 * cancels it.
 */
export async function* oneAhead<Item, Result>(
  items: readonly Item[],
  signal: AbortSignal,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
): AsyncGenerator<Result, void, undefined> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  let next: Promise<Result> | undefined;
  try {
    for (const item of items) {
      const current = next;
      next = work(item, either);
      // Its failure is told when its turn has come.
      next.catch(() => undefined);
      if (current !== undefined) yield await current;
    }
    if (next !== undefined) yield await next;
  } finally {
    stop.abort();
    await next?.catch(() => undefined);
  }
}
