// For those who try the demo and have no psql: one statement on one node, and what it answers.
// usage: on-node.js host port user database [--alone] statement
import pg from 'pg';
import { errorMessage } from '../../src/base/errors.js';
import { DRIFT_ORIGIN } from '../support/mesh.js';

const [host = '', port = '', user = '', database = '', ...rest] = process.argv.slice(2);
const statement = rest.at(-1) ?? '';
const client = new pg.Client({ host, port: Number(port), user, database, ssl: false });
try {
  await client.connect();
  if (rest.includes('--alone')) {
    // What is written under an origin is left out by the others' subscriptions (origin = none).
    await client.query(
      `SELECT pg_catalog.pg_replication_origin_create($1)
        WHERE pg_catalog.pg_replication_origin_oid($1) IS NULL`,
      [DRIFT_ORIGIN],
    );
    await client.query('SELECT pg_catalog.pg_replication_origin_session_setup($1)', [DRIFT_ORIGIN]);
  }
  const { command, rowCount, rows } = await client.query<Record<string, unknown>>(statement);
  for (const row of rows) console.log(JSON.stringify(row));
  console.log(`${command} ${rowCount ?? ''}`.trim());
} catch (error) {
  console.error(errorMessage(error));
  process.exitCode = 1;
} finally {
  await client.end();
}
