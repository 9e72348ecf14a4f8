import type { Playground } from './playground.js';

/** Gives every other node the source's rows, by plain SQL that does not replicate. */
export async function healTable(
  playground: Playground,
  table: string,
  source: string,
): Promise<void> {
  const { main } = playground.on(source);
  const columns = await main.query(
    `SELECT quote_ident(attname), format_type(atttypid, atttypmod) FROM pg_attribute
      WHERE attrelid = '${table}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
  );
  const names = columns.map(([name]) => name ?? '');
  const rows = await main.query(
    `SELECT ${names.map((name) => `array_agg(${name}::text ORDER BY i)::text`).join(', ')} FROM ${table}`,
  );
  const aliases = names.map((_, at) => `c${at}`);
  const values = columns.map(([, type], at) => `c${at}::${type ?? ''}`);
  const from = names.map((_, at) => `$${at + 1}::text[]`);
  const insert = `INSERT INTO ${table} (${names.join(', ')}) SELECT ${values.join(', ')}
    FROM unnest(${from.join(', ')}) AS given (${aliases.join(', ')})`;
  await Promise.all(
    [...playground.sessions]
      .filter(([node]) => node !== source)
      .map(async ([, { drift }]) => {
        await drift.query('BEGIN');
        try {
          await drift.query(`DELETE FROM ${table}`);
          await drift.query(insert, rows[0] ?? []);
          await drift.query('COMMIT');
        } catch (error) {
          await drift.query('ROLLBACK');
          throw error;
        }
      }),
  );
}
