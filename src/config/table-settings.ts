import { textList } from './option-values.js';
import { badValue } from './settings.js';
import type { YamlFile } from './yaml-files.js';

/** What `aced.yaml` says of one table. */
export interface TableSettings {
  /** As a person writes it: `schema.table`. */
  readonly name: string;
  /** Not compared, by table-diff and by trees that are built from then on. */
  readonly excludeColumns: readonly string[];
}

const KEY = /^tables\.(.+)\.exclude_columns$/s;
const COLUMNS = textList('a list of column names');

/** `tables: {"public.orders": {exclude_columns: [note]}}`. Errors: BAD_CONFIG. */
export function readTableSettings(file: YamlFile | undefined): TableSettings[] {
  return [...(file?.values ?? [])].flatMap(([key, { value, line }]) => {
    const name = KEY.exec(key)?.[1];
    if (!isTableSetting(key) || value === null) return [];
    const excludeColumns = COLUMNS.read(value);
    if (name !== undefined && excludeColumns !== undefined) return [{ name, excludeColumns }];
    throw badValue(`${file?.path ?? ''}, line ${line}, ${key}`, value, COLUMNS.accepts);
  });
}

export function isTableSetting(key: string): boolean {
  return key === 'tables' || KEY.test(key);
}
