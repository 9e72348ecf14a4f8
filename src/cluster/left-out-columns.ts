import type { Config } from '../config/config.js';
import { possibleTables, type TableName } from '../table/table-name.js';
import { requireColumns, type ClusterTable } from './cluster-table.js';

/** Columns of a table that the configuration leaves out of every comparison. */
export function configuredColumns(
  { tables }: Pick<Config, 'tables'>,
  { schema, name }: TableName,
): string[] {
  const isMeant = (text: string): boolean =>
    possibleTables(text).some((one) => one.schema === schema && one.name === name);
  return tables.flatMap((table) => (isMeant(table.name) ? table.excludeColumns : []));
}

/** Errors: BAD_USAGE for names that are no columns of the table. */
export function requireConfiguredColumns(
  config: Pick<Config, 'tables'>,
  catalog: ClusterTable,
): void {
  const { schema, name } = catalog.spec;
  const option = `tables."${schema}.${name}".exclude_columns in aced.yaml`;
  requireColumns(catalog, configuredColumns(config, catalog.spec), option);
}
