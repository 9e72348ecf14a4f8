import type { Session } from '../postgres/session.js';

/** A reader gives way to whoever locks the table, and a role's own limits are not ours. */
const SETTINGS = [
  "SET LOCAL lock_timeout = '10s'",
  "SET LOCAL statement_timeout = '60s'",
  // A batch is small and the table may be large: by index, whatever the statistics say.
  'SET LOCAL enable_hashjoin = off',
  'SET LOCAL enable_mergejoin = off',
].join('; ');

/** Reads rows in transactions that cannot write, nor wait for long; one at a time. */
export class ReadSession {
  readonly #session: Session;
  #last: Promise<unknown> = Promise.resolve();

  constructor(session: Session) {
    this.#session = session;
  }

  async read<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const turn = this.#last.then(() => this.#transact(work));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #transact<T>(work: (session: Session) => Promise<T>): Promise<T> {
    const session = this.#session;
    const isNew = session.serverVersion >= 170_000;
    await session.query(
      `BEGIN READ ONLY; ${SETTINGS}${isNew ? '; SET LOCAL transaction_timeout = 0' : ''}`,
    );
    try {
      const result = await work(session);
      await session.query('COMMIT');
      return result;
    } catch (error) {
      await session.query('ROLLBACK').catch(() => session.destroy());
      throw error;
    }
  }
}
