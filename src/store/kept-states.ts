import type Sqlite from 'better-sqlite3';

export type RunStatement = <T>(sql: string, work: (statement: Sqlite.Statement) => T) => T;

/** What the daemon has told, or decided by itself, and must know again after a restart. */
export class KeptStates {
  readonly #run: RunStatement;

  constructor(run: RunStatement) {
    this.#run = run;
  }

  /** The table's open incident, as JSON; null: none. */
  incident(table: string): string | null {
    const row = this.#run('SELECT state FROM incident WHERE table_label = ?', (s) =>
      s.get(table),
    ) as { state: string } | undefined;
    return row?.state ?? null;
  }

  saveIncident(table: string, state: string): void {
    this.#run(
      `INSERT INTO incident VALUES (?, ?)
       ON CONFLICT (table_label) DO UPDATE SET state = excluded.state`,
      (s) => s.run(table, state),
    );
  }

  removeIncident(table: string): void {
    this.#run('DELETE FROM incident WHERE table_label = ?', (s) => s.run(table));
  }

  removeIncidents(): void {
    this.#run('DELETE FROM incident', (s) => s.run());
  }

  /** Those that were open, as JSON. */
  conditions(): string[] {
    const rows = this.#run('SELECT state FROM condition', (s) => s.all()) as { state: string }[];
    return rows.map(({ state }) => state);
  }

  saveCondition(id: string, state: string): void {
    this.#run('INSERT OR REPLACE INTO condition VALUES (?, ?)', (s) => s.run(id, state));
  }

  removeCondition(id: string): void {
    this.#run('DELETE FROM condition WHERE id = ?', (s) => s.run(id));
  }

  /** Whether the daemon has begun to follow the table by itself. */
  isAutoTable(schema: string, name: string): boolean {
    return this.#run(
      'SELECT 1 FROM auto_table WHERE schema = ? AND name = ?',
      (s) => s.get(schema, name) !== undefined,
    );
  }

  addAutoTable(schema: string, name: string): void {
    this.#run('INSERT OR IGNORE INTO auto_table VALUES (?, ?)', (s) => s.run(schema, name));
  }

  /** All of them, as a JSON array of schema and name each. */
  autoTables(): string[] {
    const rows = this.#run('SELECT schema, name FROM auto_table', (s) => s.all()) as {
      schema: string;
      name: string;
    }[];
    return rows.map(({ schema, name }) => JSON.stringify([schema, name]));
  }

  removeAutoTable(schema: string, name: string): void {
    this.#run('DELETE FROM auto_table WHERE schema = ? AND name = ?', (s) => s.run(schema, name));
  }
}
