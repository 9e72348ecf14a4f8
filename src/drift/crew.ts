/** Items that are worked on at once. */
const CONCURRENCY = 4;
/** Beside so many that take their time. */
const MAX_SLOW = 4;
/** What takes longer is left to itself. */
const PATIENCE_MS = 500;

/** Works on items, several at once; whoever asks does not wait for those that take long. */
export class Crew<Item> {
  readonly #running = new Map<Item, Promise<void>>();
  /** Of these, those that wait for somebody else and take nobody's place. */
  readonly #waiting = new Set<Item>();

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
    const busy = this.#running.size - this.#waiting.size;
    const places = CONCURRENCY + Math.min(MAX_SLOW, busy) - busy;
    const one = async (): Promise<void> => {
      for (let item = queue.shift(); item !== undefined; item = queue.shift()) {
        await this.#run(item, work);
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

  /**
   * Begins to work on an item that waits for its turn first: until then it takes nobody's place, and
   * end() does not wait for it. `work` does not reject, and says when the turn has come: begin().
   */
  await(item: Item, work: (item: Item) => Promise<void>): void {
    if (this.has(item)) return;
    this.#waiting.add(item);
    void this.#run(item, work);
  }

  /** The turn of an item has come. */
  begin(item: Item): void {
    this.#waiting.delete(item);
  }

  async #run(item: Item, work: (item: Item) => Promise<void>): Promise<void> {
    const running = work(item).finally(() => {
      this.#running.delete(item);
      this.#waiting.delete(item);
    });
    this.#running.set(item, running);
    await running;
  }

  /** Resolves once nothing is worked on. What still waits for its turn must find out that all is over. */
  async end(): Promise<void> {
    await Promise.all(
      [...this.#running].flatMap(([item, running]) => (this.#waiting.has(item) ? [] : [running])),
    );
  }
}
