import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { parseTablePattern, parseTablePatterns } from '../../src/table/table-pattern.js';

describe('patterns of table names', () => {
  const cases: readonly (readonly [string, readonly string[], readonly string[]])[] = [
    ['public.*', ['public.a', 'public.A b', 'public.x.y'], ['sales.a', 'publicx.a']],
    ['orders', ['public.orders'], ['sales.orders', 'public.orders2']],
    ['order?', ['public.orders', 'public.orderé', 'public.order𝒳'], ['public.order']],
    ['*.audit', ['public.audit', 'sales.audit'], ['public.audits']],
    ['*.*', ['a.b', 'A.B c'], []],
    ['Sales.Order*', ['Sales.Orders', 'sales.order', 'Sales.orders'], ['SALES.ORDERS']],
    ['"Sales".*', ['Sales.orders'], ['sales.orders']],
    ['public."a*"', ['public.a*'], ['public.ab']],
    ['"a.b"."c ""d"""', ['a.b.c "d"'], []],
    ['My Schema.The Table', ['My Schema.The Table', 'my schema.the table'], []],
    ['public.a+(b)[c]$', ['public.a+(b)[c]$'], ['public.aab']],
    ['public.a\\b', ['public.a\\b'], []],
    ['public.line*', ['public.line\nbreak'], []],
  ];
  /** The schema is what stands before the first dot, or of `a.b.c` in this test its first two parts. */
  const nameOf = (text: string): { schema: string; name: string } => {
    const at = text.startsWith('a.b.') ? 3 : text.indexOf('.');
    return { schema: text.slice(0, at), name: text.slice(at + 1) };
  };
  for (const [text, matching, others] of cases) {
    it(text, () => {
      const pattern = parseTablePattern(text);
      for (const one of matching) assert.ok(pattern.matches(nameOf(one)), one);
      for (const one of others) assert.ok(!pattern.matches(nameOf(one)), one);
    });
  }

  it('knows a name from a pattern', () => {
    assert.ok(parseTablePattern('public.orders').isName);
    assert.ok(parseTablePattern('public."a*"').isName);
    assert.ok(!parseTablePattern('public.a*').isName);
    assert.ok(!parseTablePattern('p?.a').isName);
  });

  it('without a schema means public, or any', () => {
    const anywhere = parseTablePattern('audit', { defaultSchema: null });
    assert.ok(anywhere.matches({ schema: 'sales', name: 'audit' }));
    assert.ok(!anywhere.isName);
    assert.ok(!parseTablePattern('audit').matches({ schema: 'sales', name: 'audit' }));
  });

  it('reads lists', () => {
    const texts = parseTablePatterns('a, "b,c".d,e.*').map(({ text }) => text);
    assert.deepEqual(texts, ['a', '"b,c".d', 'e.*']);
  });

  it('refuses everything else', () => {
    for (const text of ['', '.', 'a.', '.a', 'a.b.c', '"a', 'a"b', '""', '"a"b', 'a. b', 'a\0']) {
      assert.throws(
        () => parseTablePattern(text),
        (error) => error instanceof AcedError && error.code === 'BAD_USAGE',
        text,
      );
    }
    assert.throws(() => parseTablePatterns('a,,b'), { code: 'BAD_USAGE' });
  });
});
