import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { serversOfConnection } from '../../src/replication/connection-string.js';

const APP = { host: 'db1', port: 5433, database: 'app' };

describe('the servers of a libpq connection string', () => {
  for (const [text, servers] of [
    ['host=db1 port=5433 dbname=app user=x password=secret', [APP]],
    [
      `dbname = 'my app' host='db\\'1' password='a b=c host=no'`,
      [{ host: "db'1", port: 5432, database: 'my app' }],
    ],
    ['host=db1,db2 port=5433 dbname=app', [APP, { ...APP, host: 'db2' }]],
    ['host=db1,db2 port=5433,5434 dbname=app', [APP, { ...APP, host: 'db2', port: 5434 }]],
    ['hostaddr=10.0.0.1 host=db1 port=5433 dbname=app', [APP, { ...APP, host: '10.0.0.1' }]],
    ['host=/var/run dbname=app', [{ host: '/var/run', port: 5432, database: 'app' }]],
    ['postgresql://u:p%40w@db1:5433/app?sslmode=require', [APP]],
    [
      'postgres://db1:5433,[::1]/my%20app',
      [
        { ...APP, database: 'my app' },
        { host: '::1', port: 5432, database: 'my app' },
      ],
    ],
    ['postgresql:///app?host=%2Ftmp&port=5433', [{ ...APP, host: '/tmp' }]],
    // Which database or host that is, is not in it.
    ['host=db1', []],
    ['dbname=app', []],
    ['', []],
  ] as const) {
    it(text === '' ? '(empty)' : text, () => {
      assert.deepEqual(serversOfConnection(text), servers);
    });
  }
});
