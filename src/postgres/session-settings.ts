/**
 * What every connection of ours pins, the replication one too: the text of a value depends on the
 * session's settings, and a digest made from SQL must equal one made from the stream. Roles,
 * databases and postgresql.conf may set other values, so none is left to its default. Values are
 * spelled as the server shows them: they are read back.
 */
export const SESSION_SETTINGS: Readonly<Record<string, string>> = Object.freeze({
  client_encoding: 'UTF8',
  // The text of values, read and written.
  datestyle: 'ISO, MDY',
  intervalstyle: 'postgres',
  extra_float_digits: '3',
  timezone: 'UTC',
  bytea_output: 'hex',
  lc_monetary: 'C',
  array_nulls: 'on',
  xmloption: 'content',
  xmlbinary: 'base64',
  // The text of names and types.
  quote_all_identifiers: 'off',
  search_path: 'pg_catalog',
  // What a statement of ours means.
  standard_conforming_strings: 'on',
  backslash_quote: 'safe_encoding',
  transform_null_equals: 'off',
  // Any other value lets the server leave out rows that an index finds.
  gin_fuzzy_search_limit: '0',
  // Does not lift a policy: it turns a read that a policy would have filtered into an error, where
  // rows would otherwise silently stay unchecked.
  row_security: 'off',
  // A session writes in transactions that say so: functions and views of the user's must not be
  // able to write as us.
  default_transaction_read_only: 'on',
  default_transaction_isolation: 'read committed',
  default_transaction_deferrable: 'off',
  // Limits made for other work than ours; where a statement of ours needs one it sets its own.
  statement_timeout: '0',
  lock_timeout: '0',
  idle_session_timeout: '0',
  exit_on_error: 'off',
  // Ends what our host left open when it lost power: the rows of a repair would stay locked until
  // TCP notices.
  idle_in_transaction_session_timeout: '5min',
  default_table_access_method: 'heap',
  // The planner takes our statements for larger than they are: compiling one costs up to twice what running it does.
  jit: 'off',
});

/**
 * Pinned too, where the server has them: a start-up packet with a name that the server does not know
 * is refused. transaction_timeout came with 17; a walsender that decodes obeys it as well.
 */
export const NEWER_SETTINGS: Readonly<Record<string, string>> = Object.freeze({
  transaction_timeout: '0',
});

/** What a connection pins that runs conditions of the user's: these mean what they mean to the role. */
export const USER_PATH_SETTINGS: Readonly<Record<string, string>> = Object.freeze(
  Object.fromEntries(Object.entries(SESSION_SETTINGS).filter(([name]) => name !== 'search_path')),
);

/**
 * Settings as the `options` parameter of a startup packet, so that they hold from the first
 * statement on. Blanks and backslashes are escaped as the server's command
 * line rules want it (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS).
 */
export function startupOptions(
  settings: Readonly<Record<string, string>> = SESSION_SETTINGS,
): string {
  return Object.entries(settings)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, '\\$&')}`)
    .join(' ');
}
