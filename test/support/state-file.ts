import { join } from 'node:path';
import Sqlite from 'better-sqlite3';

/** Runs SQL on the state file of an engine that is closed: what a bug of ours would leave there. */
export function editState(stateDir: string, sql: string, ...params: readonly unknown[]): void {
  const database = new Sqlite(join(stateDir, 'aced.sqlite'));
  try {
    const { changes } = database.prepare(sql).run(...params);
    if (changes === 0) throw new Error('nothing was changed');
  } finally {
    database.close();
  }
}
