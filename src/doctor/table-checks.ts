import { AcedError } from '../base/errors.js';
import { readClusterTables } from '../cluster/cluster-table.js';
import { onEveryNode, type NodePools } from '../postgres/every-node.js';
import type { Session } from '../postgres/session.js';
import type { Finding } from '../protocol/doctor.js';
import { publicationProblems } from '../replication/published-tables.js';
import type { TableName } from '../table/table-name.js';

export interface TableCheckOptions {
  readonly publication: string;
  readonly signal: AbortSignal;
}

/**
 * What keeps tables from being read, compared or followed: by the code that does it, so that what is told
 * here is what a command would say.
 */
export async function checkTables(
  pools: NodePools,
  tables: readonly TableName[],
  { publication, signal }: TableCheckOptions,
): Promise<Finding[]> {
  if (tables.length === 0) return [];
  const [specs, onNodes] = await Promise.all([
    readClusterTables(pools, tables, signal, { isTree: true }),
    onEveryNode(pools, signal, (node, pool, either) =>
      pool.use(async (session) => {
        const problems = await publicationProblems(session, publication, tables);
        const privileges = await readPrivileges(session, tables, either);
        return { node, problems, privileges };
      }, either),
    ),
  ]);
  return tables.flatMap((table, index) => {
    const subject = `${table.schema}.${table.name}`;
    const found: Finding[] = [];
    const tell = (
      level: Finding['level'],
      check: string,
      evidence: string,
      remedy: string | null,
    ): void => {
      found.push({ level, check, subject, evidence, remedy });
    };
    const spec = specs[index];
    if (spec instanceof AcedError) tell('problem', 'comparable', spec.message, spec.hint ?? null);
    else {
      for (const { name, reason, cause } of spec?.spec.excluded ?? []) {
        const isOpen = cause === 'missing' || cause === 'unstable';
        if (isOpen)
          tell('warning', 'columns', `${name} is not compared: ${reason}`, NEVER_MATCH_HINT);
      }
      for (const text of spec?.spec.warnings ?? []) tell('warning', 'columns', text, null);
    }
    for (const { node, problems, privileges } of onNodes.values()) {
      const wrong = problems[index];
      if (wrong !== null && wrong !== undefined && !(wrong instanceof AcedError)) {
        tell('problem', 'can be followed', `on ${node}: ${wrong.why}`, wrong.hint);
      }
      const may = privileges.get(index);
      if (may === undefined) continue;
      if (!may.read) tell('problem', 'SELECT', `on ${node}: the role may not read it`, may.grant);
      else if (may.hidesRows) {
        tell(
          'problem',
          'row security',
          `on ${node}: its policies apply to the role`,
          'ALTER ROLE ... BYPASSRLS',
        );
      }
    }
    if (found.length === 0) tell('ok', 'table', 'can be read, compared and followed', null);
    return found;
  });
}

const NEVER_MATCH_HINT =
  'Equal rows are never told as a match; name what to leave out as --exclude-columns.';

interface Privileges {
  readonly read: boolean;
  readonly hidesRows: boolean;
  readonly grant: string;
}

/** By the table's index; a table that is not there has none. */
async function readPrivileges(
  session: Session,
  tables: readonly TableName[],
  signal: AbortSignal,
): Promise<Map<number, Privileges>> {
  const rows = await session.query(
    `SELECT w.number, pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(c.oid, 'SELECT'),
            pg_catalog.row_security_active(c.oid),
            pg_catalog.format('GRANT USAGE ON SCHEMA %I TO %I; GRANT SELECT ON %I.%I TO %I', w.schema, current_user, w.schema, w.name, current_user)
       FROM ROWS FROM (pg_catalog.unnest($1::name[]), pg_catalog.unnest($2::name[]))
            WITH ORDINALITY AS w (schema, name, number)
       JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema
       JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name`,
    [tables.map(({ schema }) => schema), tables.map(({ name }) => name)],
    signal,
  );
  return new Map(
    rows.map(([number, read, hides, grant]) => [
      Number(number) - 1,
      { read: read === 't', hidesRows: hides === 't', grant: grant ?? '' },
    ]),
  );
}
