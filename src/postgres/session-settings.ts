/**
 * What every connection of ours pins, the replication one too: the text of a value depends on the
 * session's settings, and a digest made from SQL must equal one made from the stream. Roles,
 * databases and postgresql.conf may set other values, so none is left to its default.
 *
 * `row_security = off` does not lift a policy: it turns a read that a policy would have filtered
 * into an error, where rows would otherwise silently stay unchecked. The idle timeout ends what our
 * host left open when it lost power: the rows of a repair would stay locked until TCP notices.
 */
export const SESSION_SETTINGS: Readonly<Record<string, string>> = Object.freeze({
  client_encoding: 'UTF8',
  datestyle: 'ISO, MDY',
  intervalstyle: 'postgres',
  extra_float_digits: '3',
  timezone: 'UTC',
  bytea_output: 'hex',
  lc_monetary: 'C',
  search_path: 'pg_catalog',
  standard_conforming_strings: 'on',
  row_security: 'off',
  idle_in_transaction_session_timeout: '5min',
});

/**
 * SESSION_SETTINGS as the `options` parameter of a startup packet, so that they hold from the first
 * statement on. Blanks and backslashes are escaped as the server's command line rules want it
 * (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS).
 */
export function startupOptions(): string {
  return Object.entries(SESSION_SETTINGS)
    .map(([name, value]) => `-c ${name}=${value.replace(/[\\\s]/g, '\\$&')}`)
    .join(' ');
}
