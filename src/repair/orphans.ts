import { quoteIdentifier, quoteQualified } from '../base/quote.js';
import { sqlStateOf } from '../postgres/connect-error.js';
import type { KeyText, TableSpec } from '../table/table-spec.js';
import type { ReadSession } from './read-session.js';

export interface OrphanOptions {
  readonly node: string;
  readonly reader: ReadSession;
  readonly tableOid: number;
  readonly spec: TableSpec;
  readonly deletedKeys: readonly KeyText[];
  readonly writtenKeys: readonly KeyText[];
}

interface ForeignKey {
  readonly name: string;
  /** Quoted, with the schema. */
  readonly from: string;
  readonly to: string;
  readonly fromColumns: readonly string[];
  readonly toColumns: readonly string[];
  readonly isOurs: boolean;
}

const PATIENCE_MS = 5_000;

/**
 * Rows that point to nothing since the repair, a sentence per foreign key: the repair writes with
 * foreign keys unchecked. Only rows that refer to what was deleted, or were written, are looked at,
 * except where a foreign key refers to other columns than the primary key's.
 */
export async function describeOrphans(options: OrphanOptions): Promise<string[]> {
  const { node, deletedKeys, writtenKeys } = options;
  if (deletedKeys.length + writtenKeys.length === 0) return [];
  const sentences: string[] = [];
  for (const foreignKey of await readForeignKeys(options)) {
    const query = orphanQuery(foreignKey, options);
    if (query === null) continue;
    const { from, to, name } = foreignKey;
    const found = await count(options.reader, query);
    if (found === null) {
      sentences.push(
        `On ${node} it is not known whether rows of ${from} point to rows of ${to} that are not there (${name}): they could not be counted in ${PATIENCE_MS / 1000} s, or may not be read.`,
      );
    } else if (found !== '0') {
      sentences.push(
        `On ${node} ${found === '1' ? '1 row' : `${found} rows`} of ${from} now point to rows of ${to} that are not there (${name}): compare and repair ${foreignKey.isOurs ? to : from} too.`,
      );
    }
  }
  return sentences;
}

async function readForeignKeys({ reader, tableOid }: OrphanOptions): Promise<ForeignKey[]> {
  const columns = (relation: string, numbers: string): string =>
    `(SELECT pg_catalog.json_agg(a.attname ORDER BY k.place)::text
        FROM unnest(${numbers}) WITH ORDINALITY k(number, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = ${relation} AND a.attnum = k.number)`;
  const rows = await reader.read((session) =>
    session.query(
      `SELECT f.conname, fn.nspname, fc.relname, tn.nspname, tc.relname,
              ${columns('f.conrelid', 'f.conkey')}, ${columns('f.confrelid', 'f.confkey')},
              f.conrelid = $1::oid
         FROM pg_catalog.pg_constraint f
         JOIN pg_catalog.pg_class fc ON fc.oid = f.conrelid
         JOIN pg_catalog.pg_namespace fn ON fn.oid = fc.relnamespace
         JOIN pg_catalog.pg_class tc ON tc.oid = f.confrelid
         JOIN pg_catalog.pg_namespace tn ON tn.oid = tc.relnamespace
        WHERE f.contype = 'f' AND f.conparentid = 0 AND $1::oid IN (f.conrelid, f.confrelid)
        ORDER BY 3, 1`,
      [String(tableOid)],
    ),
  );
  return rows.map(([name, fromSchema, from, toSchema, to, fromColumns, toColumns, isOurs]) => ({
    name: name ?? '',
    from: quoteQualified(fromSchema ?? '', from ?? ''),
    to: quoteQualified(toSchema ?? '', to ?? ''),
    fromColumns: JSON.parse(fromColumns ?? '[]') as string[],
    toColumns: JSON.parse(toColumns ?? '[]') as string[],
    isOurs: isOurs === 't',
  }));
}

interface OrphanQuery {
  readonly sql: string;
  readonly params: readonly (readonly string[])[];
}

/** Null: nothing that was done concerns this foreign key. */
function orphanQuery(
  { from, to, fromColumns, toColumns, isOurs }: ForeignKey,
  { spec, deletedKeys, writtenKeys }: OrphanOptions,
): OrphanQuery | null {
  const names = fromColumns.map((name) => `c.${quoteIdentifier(name)}`);
  const pairs = names.map((name, i) => `p.${quoteIdentifier(toColumns[i] ?? '')} = ${name}`);
  const isDangling = `${names.map((name) => `${name} IS NOT NULL`).join(' AND ')}
    AND NOT EXISTS (SELECT FROM ${to} p WHERE ${pairs.join(' AND ')})`;
  if (isOurs) {
    if (writtenKeys.length === 0) return null;
    const match = spec.key.map(
      ({ name, typeName, operators }, i) =>
        `c.${quoteIdentifier(name)} ${operators.equal} r.k${i}::${typeName}`,
    );
    return keyed(writtenKeys, `${from} c ON ${match.join(' AND ')} WHERE ${isDangling}`);
  }
  const places = spec.key.map(({ name }) => toColumns.indexOf(name));
  if (places.includes(-1) || places.length !== toColumns.length) {
    return { sql: `SELECT count(*) FROM ${from} c WHERE ${isDangling}`, params: [] };
  }
  if (deletedKeys.length === 0) return null;
  const match = spec.key.map(
    ({ typeName }, i) => `${names[places[i] ?? 0] ?? ''} = r.k${i}::${typeName}`,
  );
  return keyed(deletedKeys, `${from} c ON ${match.join(' AND ')} WHERE ${isDangling}`);
}

function keyed(keys: readonly KeyText[], joined: string): OrphanQuery {
  const columns = keys[0]?.length ?? 0;
  const places = Array.from({ length: columns }, (_, i) => i);
  const arrays = places.map((i) => `$${i + 1}::text[]`).join(', ');
  const names = places.map((i) => `k${i}`).join(', ');
  return {
    sql: `SELECT count(*) FROM unnest(${arrays}) r(${names}) JOIN ${joined}`,
    params: places.map((i) => keys.map((key) => key[i] ?? '')),
  };
}

/** Null: it takes too long, or may not be read. */
async function count(reader: ReadSession, { sql, params }: OrphanQuery): Promise<string | null> {
  try {
    const rows = await reader.read(async (session) => {
      await session.query(
        `SET LOCAL statement_timeout = ${PATIENCE_MS}; SET LOCAL lock_timeout = ${PATIENCE_MS};
         SET LOCAL enable_hashjoin = on`,
      );
      return session.query(sql, params);
    });
    return rows[0]?.[0] ?? '0';
  } catch (error) {
    if (sqlStateOf(error) === undefined) throw error;
    return null;
  }
}
