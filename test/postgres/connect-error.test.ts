import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import type { NodeConfig } from '../../src/config/config.js';
import { sqlStateOf, toAcedError } from '../../src/postgres/connect-error.js';
import { findPassword } from '../../src/config/password-file.js';
import { SESSION_SETTINGS, startupOptions } from '../../src/postgres/session-settings.js';

const NODE: NodeConfig = {
  name: 'n1',
  host: '::1',
  port: 5432,
  database: 'd',
  user: 'u',
  password: 'very secret',
  sslMode: 'disable',
  connectTimeoutMs: 1000,
  tcpUserTimeoutMs: 0,
};

function serverError(code: string): Error {
  return Object.assign(new Error('as the server says'), { code, severity: 'ERROR' });
}

describe('toAcedError', () => {
  for (const [code, expected] of [
    ['08006', 'NODE_UNREACHABLE'],
    ['28000', 'AUTH_FAILED'],
    ['28P01', 'AUTH_FAILED'],
    ['3D000', 'BAD_CONFIG'],
    ['40001', 'QUERY_FAILED'],
    ['40P01', 'QUERY_FAILED'],
    ['42501', 'MISSING_PRIVILEGE'],
    ['42P01', 'NO_SUCH_TABLE'],
    ['53300', 'NODE_UNREACHABLE'],
    ['53400', 'QUERY_FAILED'],
    ['55P03', 'TIMEOUT'],
    ['57014', 'CANCELLED'],
    ['57P01', 'NODE_UNREACHABLE'],
    ['57P03', 'NODE_UNREACHABLE'],
    ['XX000', 'QUERY_FAILED'],
  ] as const) {
    it(`SQLSTATE ${code}: ${expected}`, () => {
      const cause = serverError(code);
      const error = toAcedError(cause, NODE, 'reading');
      assert.equal(error.code, expected);
      assert.equal(
        error.message,
        `node n1 ([::1]:5432/d), reading: as the server says (SQLSTATE ${code})`,
      );
      assert.equal(sqlStateOf(error), code);
      // Which of its texts quote values is not known; what is understood does not.
      const isQuoted = error.logMessage.includes('as the server says');
      assert.equal(isQuoted, expected !== 'QUERY_FAILED');
      assert.equal(error.logMessage.endsWith(`(SQLSTATE ${code})`), true);
    });
  }

  for (const [code, expected] of [
    ['ECONNREFUSED', 'NODE_UNREACHABLE'],
    ['ENOTFOUND', 'NODE_UNREACHABLE'],
    ['EPIPE', 'NODE_UNREACHABLE'],
    ['ERR_STREAM_DESTROYED', 'NODE_UNREACHABLE'],
    ['DEPTH_ZERO_SELF_SIGNED_CERT', 'AUTH_FAILED'],
    ['ERR_TLS_CERT_ALTNAME_INVALID', 'AUTH_FAILED'],
    ['EPROTO', 'AUTH_FAILED'],
    ['ERR_INVALID_ARG_TYPE', 'INTERNAL'],
  ] as const) {
    it(`system error ${code}: ${expected}`, () => {
      const cause = Object.assign(new Error('x'), { code });
      assert.equal(toAcedError(cause, NODE, 'connecting').code, expected);
    });
  }

  it('takes a plain error of pg for a lost connection, and a TypeError for a defect', () => {
    assert.equal(toAcedError(new Error('ended'), NODE, 'x').code, 'NODE_UNREACHABLE');
    assert.equal(toAcedError(new TypeError('x'), NODE, 'x').code, 'INTERNAL');
  });

  it('says what every address of a host answered', () => {
    const refused = (host: string): Error =>
      Object.assign(new Error(`connect ECONNREFUSED ${host}`), { code: 'ECONNREFUSED' });
    const cause = Object.assign(new AggregateError([refused('::1'), refused('127.0.0.1')], ''), {
      code: 'ECONNREFUSED',
    });
    const error = toAcedError(cause, NODE, 'connecting');
    assert.equal(error.code, 'NODE_UNREACHABLE');
    assert.match(error.message, /::1; connect ECONNREFUSED 127\.0\.0\.1$/);
  });

  it('adds context once', () => {
    const error = new AcedError('STORE', 'x');
    assert.equal(toAcedError(error, NODE, 'connecting'), error);
  });
});

describe('startupOptions', () => {
  it('escapes blanks', () => {
    assert.equal(SESSION_SETTINGS['datestyle'], 'ISO, MDY');
    assert.match(startupOptions(), /(^| )-c datestyle=ISO,\\ MDY -c /);
  });
});

describe('findPassword', () => {
  const node = { host: 'db', port: 5432, database: 'd', user: 'u' };
  for (const [line, expected] of [
    ['db:5432:d:u:secret', 'secret'],
    ['*:*:*:*:any', 'any'],
    ['other:5432:d:u:no\ndb:*:d:u:second', 'second'],
    ['db:5432:d:u:with\\:colon\\\\', 'with:colon\\'],
    ['db:5432:d:u:', ''],
    ['#db:5432:d:u:comment', undefined],
    ['db:5432:d:\\*:escaped star', undefined],
    ['db:5432:d:u', undefined],
    ['db:5433:d:u:x\r\ndb:5432:d:u:windows\r\n', 'windows'],
    ['', undefined],
  ] as const) {
    it(`${JSON.stringify(line)}: ${expected ?? 'none'}`, () => {
      assert.equal(findPassword(line, node), expected);
    });
  }

  it('takes a unix socket for localhost', () => {
    assert.equal(findPassword('localhost:*:*:*:x', { ...node, host: '/run/postgresql' }), 'x');
  });
});
