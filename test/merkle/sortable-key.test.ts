import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { compareSortables, sortableKey } from '../../src/merkle/sortable-key.js';
import { SESSION_SETTINGS } from '../../src/postgres/session-settings.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { KEY_SAMPLES } from './key-samples.js';

const VALUES_PER_TYPE = 1500;

describe('sortable keys', () => {
  let server: TestServer;

  before(async () => {
    server = await startServer();
  });
  after(async () => {
    await server.stop();
  });

  for (const { typeName, kind, collate, text } of KEY_SAMPLES) {
    it(`sort ${typeName} as the server does`, async () => {
      const seed = Number(process.env.ACED_TEST_SEED ?? Date.now() % 1e6);
      const inputs = fc.sample(text, { numRuns: VALUES_PER_TYPE, seed });
      const value = `v${collate === null ? '' : ` COLLATE ${collate}`}`;
      const rows = await server.session('postgres', async (query) => {
        for (const [name, setting] of Object.entries(SESSION_SETTINGS)) {
          await query('SELECT set_config($1, $2, false)', [name, setting]);
        }
        // dense_rank: values that are equal to the server must be equal to us too.
        return query(
          `SELECT v, dense_rank() OVER (ORDER BY ${value})
           FROM (SELECT t::${typeName} AS v FROM unnest($1::text[]) t) q ORDER BY 2`,
          [pgArray(inputs)],
        );
      });
      assert.equal(rows.length, VALUES_PER_TYPE);
      for (let i = 1; i < rows.length; i++) {
        const [[left, leftRank], [right, rightRank]] = [rows[i - 1] ?? [], rows[i] ?? []];
        assert.ok(left != null && right != null);
        const a = [sortableKey(kind, left)];
        const b = [sortableKey(kind, right)];
        const expected = leftRank === rightRank ? 0 : -1;
        const shown = `seed ${seed}: ${left.slice(0, 60)} against ${right.slice(0, 60)}`;
        assert.equal(compareSortables(a, b), expected, shown);
        assert.equal(compareSortables(b, a), expected === 0 ? 0 : 1, shown);
      }
      assert.ok(new Set(rows.map(([, rank]) => rank)).size > (kind === 'boolean' ? 1 : 70));
    });
  }
});

describe('sortableKey', () => {
  it('takes numbers of the largest size that the server has, in little time', () => {
    const large = [
      `-1${'0'.repeat(131_071)}.${'0'.repeat(16_382)}1`,
      `-1${'0'.repeat(131_071)}`,
      `-0.${'0'.repeat(16_382)}1`,
      '0',
      `0.${'0'.repeat(16_382)}1`,
      `1${'0'.repeat(131_071)}`,
      `1${'0'.repeat(131_071)}.${'0'.repeat(16_382)}1`,
    ];
    const before = process.cpuUsage();
    const keys = large.map((text) => sortableKey('numeric', text));
    const { user, system } = process.cpuUsage(before);
    assert.ok(user + system < 1_000_000, 'time follows the digits');
    for (let i = 1; i < keys.length; i++) {
      assert.equal(compareSortables([keys[i - 1] ?? ''], [keys[i] ?? '']), -1, `number ${i}`);
    }
  });
});

describe('compareSortables', () => {
  it('compares the first part that differs', () => {
    assert.equal(compareSortables([1, 'b'], [1, 'a']), 1);
    assert.equal(compareSortables([1, 'b'], [2n, 'a']), -1);
    assert.equal(compareSortables([2n, 'a'], [2, 'a']), 0);
  });

  it('refuses keys of unequal length and texts that are no times', () => {
    assert.throws(() => compareSortables([1, 2], [1]), RangeError);
    assert.throws(() => sortableKey('timestamp', '01/02/2024'), RangeError);
    assert.throws(() => sortableKey('date', ''), RangeError);
  });
});

function pgArray(texts: readonly string[]): string {
  return `{${texts.map((text) => `"${text.replace(/["\\]/g, '\\$&')}"`).join(',')}}`;
}
