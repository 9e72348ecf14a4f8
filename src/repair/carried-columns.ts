import type { DigestColumn } from '../digest/digest-column.js';
import type { Session } from '../postgres/session.js';
import { declarationOf } from '../table/build-spec.js';
import type { TableInfo } from '../table/table-info.js';
import { infoOf, type RepairRun } from './repair-run.js';
import type { TargetSession } from './target-session.js';

export interface CarriedColumns {
  /** Inserted with a row that the target lacks, though nobody has compared them. */
  readonly columns: readonly DigestColumn[];
  readonly warnings: readonly string[];
}

interface Sides {
  readonly node: string;
  readonly peer: string;
  readonly session: Session;
  readonly source: Session;
  /** Null: a dry run. */
  readonly target: TargetSession | null;
}

/**
 * Of the columns that the diff left out those that a row can be inserted with: alike on both nodes, for what
 * the table makes of a value is proved by no digest, and open to our roles. The others take their defaults.
 */
export async function carriedColumns(run: RepairRun, sides: Sides): Promise<CarriedColumns> {
  const { node, peer, session, source, target } = sides;
  if (run.leftOut.length === 0) return { columns: [], warnings: [] };
  const [here, there] = [infoOf(run, node), infoOf(run, peer)];
  const writer = target?.facts.writer ?? null;
  const readable = await withPrivilege(source, there, { privilege: 'SELECT', role: null });
  const writable = await withPrivilege(session, here, { privilege: 'INSERT', role: writer });
  const isCarried = ({ name }: DigestColumn): boolean =>
    declarationIn(here, name) === declarationIn(there, name) &&
    readable.has(name) &&
    writable.has(name);
  const columns = run.leftOut.filter(isCarried);
  const lost = run.leftOut.filter((column) => !columns.includes(column)).map(({ name }) => name);
  if (lost.length === 0) return { columns, warnings: [] };
  const warning =
    `Rows that ${node} lacks are inserted without ${lost.join(', ')}: the type is another one than on ` +
    `${peer}, or the role may not read or insert it`;
  return { columns, warnings: [warning] };
}

function declarationIn({ columns }: TableInfo, name: string): string | null {
  const column = columns.find((one) => one.name === name);
  return column === undefined ? null : declarationOf(column);
}

/** @param role null: our own */
async function withPrivilege(
  session: Session,
  { oid, columns }: TableInfo,
  { privilege, role }: { readonly privilege: string; readonly role: string | null },
): Promise<ReadonlySet<string>> {
  const rows = await session.query(
    `SELECT name FROM unnest($2::text[]) AS name
      WHERE pg_catalog.has_column_privilege(coalesce($4::name, current_user), $1::oid, name, $3)`,
    [String(oid), columns.map(({ name }) => name), privilege, role],
  );
  return new Set(rows.map(([name]) => name ?? ''));
}
