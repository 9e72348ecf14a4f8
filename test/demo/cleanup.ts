interface Task {
  readonly what: string;
  readonly run: () => Promise<void>;
}

/** What must be undone at the end, in reverse order, once. */
export class Cleanup {
  readonly #tasks: Task[] = [];
  #running: Promise<void> | undefined;

  add(what: string, run: () => Promise<void>): void {
    this.#tasks.push({ what, run });
  }

  /** Forgets everything: it stays. */
  cancel(): void {
    this.#tasks.length = 0;
  }

  /** A task that fails is named on stderr and does not keep the others from running. */
  run(): Promise<void> {
    this.#running ??= this.#runAll();
    return this.#running;
  }

  async #runAll(): Promise<void> {
    for (let task = this.#tasks.pop(); task !== undefined; task = this.#tasks.pop()) {
      try {
        await task.run();
      } catch (error) {
        process.stderr.write(`could not ${task.what}: ${String(error)}\n`);
      }
    }
  }
}
