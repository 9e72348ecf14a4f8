import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DiffRow, ReportColumn, RowImage } from '../../src/diff-file/diff-writer.js';

/** A file that ACE 2.1.1 wrote. */
export function fixtureText(name: string): string {
  return readFileSync(fixturePath(name), 'utf8');
}

/** The sources' folder, also when the tests run from a build directory. */
export function fixturePath(name: string): string {
  let directory = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    const path = join(directory, 'test', 'fixtures', 'ace-2.1.1', name);
    if (existsSync(path)) return path;
    const parent = dirname(directory);
    if (parent === directory) throw new Error(`no fixture ${name}`);
    directory = parent;
  }
}

export interface Fixture {
  readonly diffs: Record<string, { rows: Record<string, Record<string, unknown>[]> }>;
  readonly summary: {
    table: string;
    nodes: string[];
    primary_key: string[];
    table_filter?: string;
  };
}

const NUMBER_OIDS: Readonly<Record<string, number>> = { r: 700, f: 701, b: 16, d: 1082, i: 869 };

/** The columns as the tables behind the fixtures have them. */
export function fixtureColumns(fixture: Fixture): ReportColumn[] {
  const [pair] = Object.values(fixture.diffs);
  const [row] = Object.values(pair?.rows ?? {}).flat();
  return Object.entries(row ?? {})
    .filter(([name]) => name !== '_spock_metadata_')
    .map(([name, value]) => ({ name, baseTypeOid: oidOf(name, value) }));
}

function oidOf(name: string, value: unknown): number {
  const known = NUMBER_OIDS[name];
  if (known !== undefined && name.length === 1) return known;
  if (name === 'ts') return 1114;
  if (name === 'tz' || name === 'created') return 1184;
  return typeof value === 'number' ? 20 : 25;
}

/** Undoes the JSON form: the text that PostgreSQL had printed. */
function postgresText(value: unknown, oid: number): string | null {
  if (value === null) return null;
  if (oid === 16) return value === true ? 't' : 'f';
  if (typeof value === 'number') return String(value);
  if (typeof value !== 'string') throw new Error('no fixture has such a value');
  const text = value;
  if (oid === 1082) return text.slice(0, 10);
  if (oid === 1114) return text.replace('T', ' ').replace('Z', '');
  if (oid === 1184) return text.replace('T', ' ').replace('Z', '+00');
  if (oid === 869) return text.replace('/32', '');
  return text;
}

/** The rows of a fixture as the diff would hand them to the writer, by key. */
export function fixtureRows(fixture: Fixture, columns: readonly ReportColumn[]): DiffRow[] {
  const { nodes, primary_key: key } = fixture.summary;
  const rows = new Map<string, Map<string, RowImage | null>>();
  for (const { rows: sides } of Object.values(fixture.diffs)) {
    for (const [node, list] of Object.entries(sides)) {
      for (const row of list) {
        const id = JSON.stringify(key.map((name) => row[name]));
        const images = rows.get(id) ?? new Map<string, RowImage | null>();
        rows.set(id, images.set(node, imageOf(row, columns)));
      }
    }
  }
  for (const images of rows.values()) {
    // A node that a row was equal on is not in the file: it has what the others agree on.
    const missing = nodes.filter((node) => !images.has(node));
    for (const node of missing) images.set(node, null);
  }
  fillEqualRows(fixture, rows);
  return [...rows.entries()]
    .sort(([a], [b]) => compareKeys(JSON.parse(a) as unknown[], JSON.parse(b) as unknown[]))
    .map(([, images]) => ({ images }));
}

/** Where a pair does not list a key, both of its nodes have the same row, or none. */
function fillEqualRows(fixture: Fixture, rows: Map<string, Map<string, RowImage | null>>): void {
  const { nodes, primary_key: key } = fixture.summary;
  for (const [id, images] of rows) {
    const listed = (a: string, b: string): boolean =>
      Object.values(fixture.diffs[[a, b].sort().join('/')]?.rows ?? {})
        .flat()
        .some((row) => JSON.stringify(key.map((name) => row[name])) === id);
    for (const a of nodes) {
      for (const b of nodes) {
        if (a === b || listed(a, b)) continue;
        images.set(a, images.get(a) ?? images.get(b) ?? null);
      }
    }
  }
}

function imageOf(row: Record<string, unknown>, columns: readonly ReportColumn[]): RowImage {
  const values = columns.map(({ name, baseTypeOid }) => postgresText(row[name], baseTypeOid));
  const { commit_ts: time, node_origin: origin } = row['_spock_metadata_'] as {
    commit_ts: string;
    node_origin: string;
  };
  return {
    digest: createHash('sha1').update(JSON.stringify(values)).digest('hex').slice(0, 16),
    values,
    commitTs: time.replace('T', ' ').replace('Z', '+00'),
    origin,
  };
}

function compareKeys(a: readonly unknown[], b: readonly unknown[]): number {
  for (const [i, left] of a.entries()) {
    const right = b[i];
    if (left === right) continue;
    if (typeof left === 'number' && typeof right === 'number') return left - right;
    // ACE's key is ordered by the server's collation, which puts `new` before `sku` too.
    return String(left) < String(right) ? -1 : 1;
  }
  return 0;
}
