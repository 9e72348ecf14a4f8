/** A customer table: one of each common type, 14 columns, about 180 bytes a row. */
export const CUSTOMERS_DDL = `CREATE TABLE customers (
  id bigint PRIMARY KEY,
  first_name text, last_name text, email text, phone text, city text, country char(2),
  balance numeric(12,2), credit integer, active boolean,
  created_at timestamptz, updated_at timestamp, birth date, notes text)`;

/** A SELECT of the rows with ids `from` to `to`, as numbers or SQL expressions; always the same rows. */
export function customerRows(from: number | string, to: number | string): string {
  return `SELECT i AS id, 'First' || i % 1000, 'Last' || i % 5000, 'user' || i || '@example.com',
    '+1-555-' || lpad((i % 10000)::text, 4, '0'), 'City' || i % 300, 'US',
    (i % 100000) / 100.0, (i % 850)::int, i % 7 <> 0,
    timestamptz '2020-01-01 00:00:00Z' + i * interval '37 second',
    timestamp '2021-01-01' + i * interval '11 second',
    date '1950-01-01' + (i % 20000)::int, 'note ' || md5(i::text)
    FROM generate_series((${from})::bigint, (${to})::bigint) AS i`;
}
