import assert from 'node:assert/strict';
import { it } from 'node:test';
import fc from 'fast-check';
import { RowSums } from '../../src/repair/row-sums.js';

const digest = fc.oneof(
  fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }),
  fc.bigInt({ min: -(10n ** 11n), max: 10n ** 11n }),
  fc.constantFrom(0n, -1n, 10n ** 9n, -(10n ** 9n), 10n ** 10n - 1n, -(2n ** 63n)),
);

const hexOf = (values: readonly bigint[]): string =>
  BigInt.asUintN(
    64,
    values.reduce((sum, value) => sum + value, 0n),
  )
    .toString(16)
    .padStart(16, '0');

it('sums of digests are exact, however many and in whatever parts', () => {
  fc.assert(
    fc.property(fc.array(digest), fc.array(digest), fc.nat(5), (befores, afters, cut) => {
      const [one, other] = [new RowSums(), new RowSums()];
      befores.forEach((before, i) => (i < cut ? one : other).add({ before: String(before) }));
      afters.forEach((after, i) => (i < cut ? one : other).add({ after: String(after) }));
      one.addAll(other);
      assert.deepEqual(one.texts(), { before: hexOf(befores), after: hexOf(afters) });
    }),
  );
  const many = Array.from({ length: 200_000 }, () => 2n ** 63n - 1n);
  const sums = new RowSums();
  for (const before of many) sums.add({ before: String(before) });
  assert.equal(sums.texts().before, hexOf(many));
});
