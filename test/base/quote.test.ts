import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { quoteIdentifier, quoteLiteral, quoteQualified } from '../../src/base/quote.js';

describe('SQL quoting', () => {
  it('quotes names always, so that none is folded or ends early', () => {
    assert.equal(quoteIdentifier('id'), '"id"');
    assert.equal(quoteIdentifier('a"; DROP'), '"a""; DROP"');
    assert.equal(quoteQualified('My schema', 'T'), '"My schema"."T"');
  });

  it('writes literals that mean the same under either setting of backslashes', () => {
    assert.equal(quoteLiteral(''), "''");
    assert.equal(quoteLiteral("it's"), "'it''s'");
    assert.equal(quoteLiteral("\\'"), " E'\\\\'''");
  });

  it('refuses what would cut the statement short', () => {
    assert.throws(() => quoteIdentifier('a\0b'), RangeError);
    assert.throws(() => quoteLiteral('\0'), RangeError);
  });
});
