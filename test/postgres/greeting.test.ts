import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { connectClient } from '../../src/postgres/client-config.js';
import { NEWER_SETTINGS, SESSION_SETTINGS } from '../../src/postgres/session-settings.js';
import { Session } from '../../src/postgres/session.js';
import { inTransaction } from '../../src/postgres/transaction.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { StartupProxy } from './startup-proxy.js';

const DATABASE = 'greeting';

/** Each of them is another than the one that we pin; all may be set for a role by itself. */
const HOSTILE: Readonly<Record<string, string>> = {
  datestyle: 'SQL, DMY',
  intervalstyle: 'iso_8601',
  extra_float_digits: '0',
  timezone: 'Asia/Tokyo',
  bytea_output: 'escape',
  array_nulls: 'off',
  xmloption: 'document',
  xmlbinary: 'hex',
  quote_all_identifiers: 'on',
  search_path: 'public',
  backslash_quote: 'off',
  transform_null_equals: 'on',
  gin_fuzzy_search_limit: '1',
  default_transaction_read_only: 'on',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  statement_timeout: '20ms',
  lock_timeout: '20ms',
  idle_session_timeout: '20ms',
  idle_in_transaction_session_timeout: '20ms',
  exit_on_error: 'on',
  row_security: 'on',
  jit: 'on',
};

for (const major of [15, 18] as const) {
  describe(`what a connection to PostgreSQL ${major} pins`, () => {
    let server: TestServer;

    before(async () => {
      server = await startServer({ major });
      await server.createDatabase(DATABASE);
      const settings = major < 17 ? HOSTILE : { ...HOSTILE, transaction_timeout: '100ms' };
      const statements = Object.entries(settings).map(
        ([name, value]) => `ALTER ROLE hostile SET ${name} = '${value}';`,
      );
      await server.query(
        DATABASE,
        `CREATE ROLE hostile LOGIN REPLICATION; GRANT CREATE ON DATABASE ${DATABASE} TO hostile;
         ${statements.join('\n')}`,
      );
    });

    after(async () => {
      await server.stop();
    });

    it('holds against the settings of the role, for the replication connection too', async () => {
      const node = { ...server.nodeConfig(DATABASE), user: 'hostile' };
      for (const replication of [{}, { replication: 'database' as const }]) {
        const { client } = await connectClient(node, { applicationName: 'test', ...replication });
        const newer = major < 17 ? {} : NEWER_SETTINGS;
        const names = Object.keys({ ...HOSTILE, ...SESSION_SETTINGS, ...newer });
        const columns = names.map((name) => `current_setting('${name}')`).join(', ');
        const { rows } = await client.query<string[]>({
          text: `SELECT ${columns}, current_setting('tcp_user_timeout')`,
          rowMode: 'array',
        });
        const pinned = { ...SESSION_SETTINGS, ...NEWER_SETTINGS };
        assert.deepEqual(rows[0], [...names.map((name) => pinned[name]), '30000']);
        await client.end();
      }
    });

    it('reads only, but for transactions that say that they write', async () => {
      const node = { ...server.nodeConfig(DATABASE), user: 'hostile' };
      const session = await Session.connect(node, { applicationName: 'test' });
      const create = `CREATE SCHEMA mine_${major}`;
      await assert.rejects(session.query(create), {
        code: 'QUERY_FAILED',
        hint: /default_transaction_read_only/,
      });
      // Longer than any time limit of the role.
      await inTransaction(session, {}, async () => {
        await session.query('SELECT pg_catalog.pg_sleep(0.2)');
        await session.query(create);
      });
      await session.close();
    });

    it('refuses a server that does not get them', async () => {
      const proxy = await StartupProxy.start(server, 'options');
      try {
        const node = { ...server.nodeConfig(DATABASE), port: proxy.port };
        const refused = {
          code: 'SETTING_NOT_TAKEN',
          message: new RegExp(
            `node n1 \\(127.0.0.1:${proxy.port}/${DATABASE}\\).*\\bdatestyle\\b|extra_float_digits`,
          ),
          hint: /pooler/,
        };
        const options = { applicationName: 'test' };
        await assert.rejects(Session.connect(node, options), refused);
        await assert.rejects(connectClient(node, { ...options, replication: 'database' }), refused);
      } finally {
        await proxy.stop();
      }
    });
  });
}
