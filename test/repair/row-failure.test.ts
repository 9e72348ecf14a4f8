import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { describeFailures, rowFailureOf } from '../../src/repair/row-failure.js';

/** As the driver has it, within the error that a session makes of it. */
function failure(code: string, details: Readonly<Record<string, string>> = {}): Error {
  const cause = Object.assign(new Error('Key (id)=(secret) exists'), {
    severity: 'ERROR',
    code,
    ...details,
  });
  return new AcedError('QUERY_FAILED', 'running a query', { cause });
}

const CONSTRAINT = { constraint: 'orders_email_key', table: 'orders' };
const CASES: readonly (readonly [
  code: string,
  details: Readonly<Record<string, string>>,
  kind: string | null,
  reason: string,
])[] = [
  ['23505', CONSTRAINT, 'not unique', 'SQLSTATE 23505 (orders_email_key)'],
  ['23P01', CONSTRAINT, 'not unique', 'SQLSTATE 23P01 (orders_email_key)'],
  ['23503', CONSTRAINT, 'reference', 'SQLSTATE 23503 (orders_email_key)'],
  ['23502', { table: 'orders' }, 'other', 'SQLSTATE 23502'],
  ['23514', CONSTRAINT, 'other', 'SQLSTATE 23514 (orders_email_key)'],
  ['23514', { table: 'parts' }, 'other', 'SQLSTATE 23514, parts has no partition for them'],
  ['22001', {}, 'other', 'SQLSTATE 22001'],
  ['44000', {}, 'other', 'SQLSTATE 44000'],
  ['P0001', {}, 'other', 'SQLSTATE P0001'],
  ['27000', {}, 'other', 'SQLSTATE 27000'],
  ['55P03', {}, 'locked', 'SQLSTATE 55P03'],
  ['40P01', {}, 'locked', 'SQLSTATE 40P01'],
  ['40001', {}, 'locked', 'SQLSTATE 40001'],
  // A name that is not there is a row's matter in a function of the user's, and ours elsewhere.
  ['42883', { where: 'PL/pgSQL function f()' }, 'other', 'SQLSTATE 42883, in a function'],
  ['42883', {}, null, ''],
  ['3F000', {}, null, ''],
  // Nothing else would work either.
  ['53100', {}, null, ''],
  ['57P01', {}, null, ''],
  ['25006', {}, null, ''],
  ['08006', {}, null, ''],
];

describe('why a row could not be written', () => {
  for (const [code, details, kind, reason] of CASES) {
    it(`${code} ${JSON.stringify(details)}: ${kind ?? 'no matter of single rows'}`, () => {
      const found = rowFailureOf(failure(code, details));
      assert.equal(found?.kind ?? null, kind);
      assert.ok((found?.reason ?? '').startsWith(reason), found?.reason);
      assert.doesNotMatch(JSON.stringify(found), /secret/);
    });
  }

  it('what comes from no server is none', () => {
    assert.equal(rowFailureOf(new Error('EPIPE')), null);
    assert.equal(rowFailureOf('23505'), null);
  });

  it('a sentence per reason, with the number of rows', () => {
    const one = { reason: 'SQLSTATE 23505 (k)', kind: 'not unique' } as const;
    const other = { reason: 'SQLSTATE 22001', kind: 'other' } as const;
    assert.deepEqual(describeFailures('n2', [one, other, one]), [
      'On n2 2 rows could not be written: SQLSTATE 23505 (k).',
      'On n2 1 row could not be written: SQLSTATE 22001.',
    ]);
    assert.deepEqual(describeFailures('n2', []), []);
  });
});
