import path from 'node:path';
import Sqlite from 'better-sqlite3';
import { AcedError } from '../base/errors.js';

/**
 * Keeps a daemon and an in-process engine off the same state directory. The lock is SQLite's
 * exclusive file lock on a file of its own, so the kernel frees it when the holder dies.
 */
export class StateLock {
  readonly #database: Sqlite.Database;

  private constructor(database: Sqlite.Database) {
    this.#database = database;
  }

  static acquire(stateDir: string): StateLock {
    const database = new Sqlite(path.join(stateDir, 'lock.sqlite'), { timeout: 0 });
    try {
      database.exec('BEGIN EXCLUSIVE');
    } catch (error) {
      database.close();
      if (error instanceof Sqlite.SqliteError && error.code === 'SQLITE_BUSY') {
        throw new AcedError('STATE_LOCKED', `another process is using ${stateDir}`, {
          hint: 'wait for the other acectl to finish, or talk to the running aced through its socket',
          cause: error,
        });
      }
      throw error;
    }
    return new StateLock(database);
  }

  release(): void {
    this.#database.close();
  }
}
