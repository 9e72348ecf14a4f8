import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';

interface BenchTable {
  readonly ddl: string;
  /** SELECT of so many rows, always the same. */
  readonly rows: (count: number) => string;
}

/** The tables of three sorts: mostly text; numbers and times; a key that does not follow the table. */
export const BENCH_TABLES: Readonly<Record<string, BenchTable>> = {
  customers: { ddl: CUSTOMERS_DDL, rows: (count) => customerRows(1, count) },
  orders: {
    ddl: `CREATE TABLE orders (id bigint PRIMARY KEY, customer_id integer, quantity integer,
      status smallint, price numeric(12,2), tax numeric(8,3), total numeric(14,4), paid boolean,
      created_at timestamptz, shipped_at timestamp, due date, reference uuid)`,
    rows: (count) => `SELECT i, i % 5000, i % 17, i % 5, (i % 100000) / 100.0, (i % 1000) / 1000.0,
      i * 1.0001, i % 3 = 0, timestamptz '2020-01-01 00:00:00Z' + i * interval '37.123 second',
      timestamp '2021-01-01' + i * interval '11 second', date '2020-01-01' + (i % 2000)::int,
      md5(i::text)::uuid FROM generate_series(1::bigint, ${count}) AS i`,
  },
  orders_uuid: {
    ddl: `CREATE TABLE orders_uuid (id uuid PRIMARY KEY, customer_id bigint, status smallint,
      amount numeric(12,2), created_at timestamptz, note text)`,
    rows: (count) => `SELECT md5(i::text)::uuid, i % 5000, i % 5, (i % 100000) / 100.0,
      timestamptz '2020-01-01 00:00:00Z' + i * interval '37 second', repeat(md5(i::text), 8)
      FROM generate_series(1::bigint, ${count}) AS i`,
  },
};

/** Errors for a name that is not there. */
export function benchTable(name: string): BenchTable {
  const table = BENCH_TABLES[name];
  if (table === undefined) {
    throw new Error(`no table ${name}; there are ${Object.keys(BENCH_TABLES).join(', ')}`);
  }
  return table;
}
