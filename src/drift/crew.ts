/** Items that are worked on at once. */
const CONCURRENCY = 4;
/** Beside so many that take their time. */
const MAX_SLOW = 4;
/** What takes longer is left to itself. */
const PATIENCE_MS = 500;

/** Works on items, several at once; whoever asks does not wait for those that take long. */
export class Crew<Item> {
  readonly #running = new Map<Item, Promise<void>>();

  /** Whether the item is worked on. */
  has(item: Item): boolean {
    return this.#running.has(item);
  }

  /**
   * Resolves once all is done, or after a moment: what was begun goes on then, what was not is left.
   * `work` does not reject.
   */
  async work(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
    const queue = items.filter((item) => !this.has(item));
    const places = CONCURRENCY + Math.min(MAX_SLOW, this.#running.size) - this.#running.size;
    const one = async (): Promise<void> => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        const running = work(item).finally(() => this.#running.delete(item));
        this.#running.set(item, running);
        await running;
      }
    };
    const workers = Promise.all(Array.from({ length: places }, one));
    let timer: NodeJS.Timeout | undefined;
    const patience = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MS);
    });
    await Promise.race([workers, patience]);
    clearTimeout(timer);
    queue.length = 0;
  }

  /** Resolves once nothing is worked on. */
  async end(): Promise<void> {
    await Promise.all(this.#running.values());
  }
}
