import path from 'node:path';
import Sqlite from 'better-sqlite3';
import { AcedError, errorMessage } from '../base/errors.js';
import { makeFile } from './own-files.js';

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
    let database: Sqlite.Database | null = null;
    try {
      const file = path.join(stateDir, 'lock.sqlite');
      makeFile(file);
      database = new Sqlite(file, { timeout: 0 });
      database.exec('BEGIN EXCLUSIVE');
      return new StateLock(database);
    } catch (error) {
      database?.close();
      if (error instanceof Sqlite.SqliteError && error.code === 'SQLITE_BUSY') {
        throw new AcedError('STATE_LOCKED', `another process is using ${stateDir}`, {
          hint: 'Wait for the other acectl to finish, or talk to the running aced through its socket.',
          cause: error,
        });
      }
      throw new AcedError('STORE', `cannot lock ${stateDir}: ${errorMessage(error)}`, {
        hint: 'Set ACED_STATE_DIR to a directory that this user may write; a damaged lock.sqlite may be removed.',
        cause: error,
      });
    }
  }

  release(): void {
    this.#database.close();
  }
}
