import { jsonFormatter, jsonString, jsonTimestamptz, type JsonFormatter } from './json-value.js';

/** A compared column, in attribute order. */
export interface ReportColumn {
  readonly name: string;
  readonly baseTypeOid: number;
}

/** A row as one node has it. */
export interface RowImage {
  /** 16 hex digits. */
  readonly digest: string;
  /** In the order of the columns: PostgreSQL's text under the pinned settings. */
  readonly values: readonly (string | null)[];
  /** A timestamptz's text in UTC; null: not known. */
  readonly commitTs: string | null;
  /**
   * `local`, the name of the node that the row came from (of the replication origin, where that
   * node is not certain), or null: not known.
   */
  readonly origin: string | null;
}

const ROW_INDENT = '          ';
const MEMBER_INDENT = '            ';

/** The key under which ACE keeps what it knows of a row beside its values. */
export const METADATA_KEY = '_spock_metadata_';

/** Makes the writer of one table's rows: JSON objects at their place in a diff file. */
export function rowFormatter(columns: readonly ReportColumn[]): (image: RowImage) => string {
  const prefixes = columns.map(
    (column, i) =>
      `${i === 0 ? `${ROW_INDENT}{\n` : ',\n'}${MEMBER_INDENT}${jsonString(column.name)}: `,
  );
  const formatters: readonly JsonFormatter[] = columns.map((column) =>
    jsonFormatter(column.baseTypeOid),
  );
  const metadata = `${columns.length === 0 ? `${ROW_INDENT}{\n` : ',\n'}${MEMBER_INDENT}"${METADATA_KEY}": {\n${MEMBER_INDENT}  "commit_ts": `;
  const originPrefix = `,\n${MEMBER_INDENT}  "node_origin": `;
  const digestPrefix = `,\n${MEMBER_INDENT}  "digest": "`;
  const end = `"\n${MEMBER_INDENT}}\n${ROW_INDENT}}`;
  return ({ values, commitTs, origin, digest }) => {
    let text = '';
    for (let i = 0; i < prefixes.length; i += 1) {
      const value = values[i] ?? null;
      const formatter = formatters[i] ?? jsonString;
      text += `${prefixes[i] ?? ''}${value === null ? 'null' : formatter(value)}`;
    }
    const time = commitTs === null ? 'null' : jsonTimestamptz(commitTs);
    const from = origin === null ? 'null' : jsonString(origin);
    return `${text}${metadata}${time}${originPrefix}${from}${digestPrefix}${digest}${end}`;
  };
}
