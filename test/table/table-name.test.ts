import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { parseTableName } from '../../src/table/catalog.js';

describe('parseTableName', () => {
  const cases: readonly (readonly [string, string, string])[] = [
    ['orders', 'public', 'orders'],
    ['sales.orders', 'sales', 'orders'],
    ['Sales.Orders', 'Sales', 'Orders'],
    ['"a.b"."c d"', 'a.b', 'c d'],
    ['"say ""hi"""', 'public', 'say "hi"'],
    ['x."Y.z"', 'x', 'Y.z'],
    [' public.customers ', 'public', 'customers'],
    ['größe.таблица', 'größe', 'таблица'],
  ];
  for (const [text, schema, name] of cases) {
    it(text, () => {
      assert.deepEqual(parseTableName(text), { schema, name });
    });
  }

  it('refuses everything else', () => {
    for (const text of ['', '.', 'a.', '.a', 'a.b.c', '"a', 'a"b', '""', 'a b', '"a"b', 'a. b']) {
      assert.throws(
        () => parseTableName(text),
        (error) => error instanceof AcedError && error.code === 'BAD_USAGE',
        text,
      );
    }
  });
});
