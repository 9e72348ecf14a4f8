import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';

interface BenchTable {
  readonly ddl: string;
  /** What building and comparing it whole may take, against a bare pass and against the commit measured with. */
  readonly targets?: { readonly pass?: number; readonly against?: number };
  /** SELECT of so many rows, always the same. */
  readonly rows: (count: number) => string;
}

const REST_OF_ORDER = `timestamptz '2020-01-01 00:00:00Z' + i * interval '37 second', repeat(md5(i::text), 8)`;

/** Text and numbers, mostly text, numbers and times, and keys that do not follow the table: of one column, of two, of text. */
export const BENCH_TABLES: Readonly<Record<string, BenchTable>> = {
  customers: {
    ddl: CUSTOMERS_DDL,
    targets: { pass: 1.25 },
    rows: (count) => customerRows(1, count),
  },
  customers_large: {
    ddl: `CREATE TABLE customers_large (id bigint PRIMARY KEY, customer_id text, first_name text, last_name text,
      company text, city text, country text, phone_1 text, phone_2 text, email text, website text,
      credit integer, balance numeric(12,2), subscribed date)`,
    targets: { against: 0.85 },
    rows: (
      count,
    ) => `SELECT i, substr(md5(i::text), 1, 15), 'First' || i % 1000, 'Last' || i % 5000,
      'Company ' || i % 20000, 'City' || i % 300, 'Country' || i % 200, '+1-555-' || lpad((i % 10000)::text, 4, '0'),
      '001-' || i % 999 || '-555', 'user' || i || '@example.com', 'https://www.example' || i % 7000 || '.com/',
      (i % 850)::int, (i % 100000) / 100.0, date '2020-01-01' + (i % 2000)::int
      FROM generate_series(1::bigint, ${count}) AS i`,
  },
  orders: {
    ddl: `CREATE TABLE orders (id bigint PRIMARY KEY, customer_id integer, quantity integer,
      status smallint, price numeric(12,2), tax numeric(8,3), total numeric(14,4), paid boolean,
      created_at timestamptz, shipped_at timestamp, due date, reference uuid)`,
    targets: { pass: 1.3, against: 0.4 },
    rows: (count) => `SELECT i, i % 5000, i % 17, i % 5, (i % 100000) / 100.0, (i % 1000) / 1000.0,
      i * 1.0001, i % 3 = 0, timestamptz '2020-01-01 00:00:00Z' + i * interval '37.123 second',
      timestamp '2021-01-01' + i * interval '11 second', date '2020-01-01' + (i % 2000)::int,
      md5(i::text)::uuid FROM generate_series(1::bigint, ${count}) AS i`,
  },
  orders_uuid: {
    ddl: `CREATE TABLE orders_uuid (id uuid PRIMARY KEY, customer_id bigint, status smallint,
      amount numeric(12,2), created_at timestamptz, note text)`,
    targets: { pass: 1.3, against: 0.35 },
    rows: (count) => `SELECT md5(i::text)::uuid, i % 5000, i % 5, (i % 100000) / 100.0,
      ${REST_OF_ORDER} FROM generate_series(1::bigint, ${count}) AS i`,
  },
  order_lines: {
    ddl: `CREATE TABLE order_lines (order_id uuid, line integer, status smallint, amount numeric(12,2),
      created_at timestamptz, note text, PRIMARY KEY (order_id, line))`,
    rows: (
      count,
    ) => `SELECT md5((i % ((${count} + 2) / 3))::text)::uuid, i / ((${count} + 2) / 3), i % 5, (i % 100000) / 100.0,
      ${REST_OF_ORDER} FROM generate_series(0, ${count} - 1) AS i`,
  },
  orders_tenant: {
    ddl: `CREATE TABLE orders_tenant (tenant integer, id uuid, status smallint, amount numeric(12,2),
      created_at timestamptz, note text, PRIMARY KEY (tenant, id))`,
    rows: (count) => `SELECT i % 20, md5(i::text)::uuid, i % 5, (i % 100000) / 100.0,
      ${REST_OF_ORDER} FROM generate_series(1, ${count}) AS i`,
  },
  orders_text: {
    ddl: `CREATE TABLE orders_text (id text PRIMARY KEY, customer_id bigint, status smallint,
      amount numeric(12,2), created_at timestamptz, note text)`,
    rows: (count) => `SELECT md5(i::text), i % 5000, i % 5, (i % 100000) / 100.0,
      ${REST_OF_ORDER} FROM generate_series(1::bigint, ${count}) AS i`,
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
