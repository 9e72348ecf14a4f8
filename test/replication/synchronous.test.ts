import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { namesStandby } from '../../src/replication/synchronous.js';

const CASES: readonly (readonly [string, boolean])[] = [
  ['', false],
  ['*', true],
  ['s1, *', true],
  ['ANY 1 (*)', true],
  ['any 2 (s1,s2)', false],
  ['FIRST 1 (s1, "aced demo")', true],
  ['2 ("ACED Demo", s2)', true],
  ['"aced demo"', true],
  ['aced', false],
  ['s1,s2', false],
  ['FIRST 1 ("a ""b"" (*)")', false],
];

describe('namesStandby', () => {
  for (const [setting, expected] of CASES) {
    it(`${expected ? 'finds' : 'does not find'} us in ${setting === '' ? 'nothing' : setting}`, () => {
      assert.equal(namesStandby(setting, 'aced demo'), expected);
    });
  }
});
