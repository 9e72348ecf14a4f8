import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { parseExpression, type Lookup } from '../../src/repair/plan-expression.js';
import { compareValues, type ValueKind } from '../../src/repair/plan-values.js';

const ROWS: Readonly<Record<string, readonly [ValueKind, string | null, string | null]>> = {
  id: ['number', '9007199254740993', '9007199254740992'],
  amount: ['number', '10.50', '9.5'],
  region: ['text', 'eu', "o'k"],
  at: ['time', '2024-01-02 03:04:05.123456+00', '2024-01-02 03:04:05.2+00'],
  ok: ['bool', 't', 'f'],
  none: ['text', null, 'x'],
  'Odd "Name': ['text', '007', '7'],
};

const lookup: Lookup = (side, column) => {
  const [kind, first, second] = ROWS[column] ?? ['text', null, null];
  return { kind, text: side === 0 ? first : second };
};

const names = {
  sideOf: (name: string): 0 | 1 | null | undefined =>
    (({ n1: 0, n2: 1, 'east-1': 0, n3: null }) as Record<string, 0 | 1 | null>)[name],
  hasColumn: (name: string): boolean => name in ROWS,
};

describe('the condition of a rule', () => {
  const cases: readonly [text: string, value: boolean | null][] = [
    ["n1.region = 'eu'", true],
    ["n2.region = 'o''k'", true],
    ["n1.region = 'eu' AND n1.amount > 9.6", true],
    ["NOT (n1.region = 'eu' OR n2.region = 'eu')", false],
    ["n1.region IN ('us', 'eu')", true],
    ["n1.region NOT IN ('us', 'eu')", false],
    ['n1.id > n2.id', true],
    ['n1.id = 9007199254740993', true],
    ['n1.id = 9007199254740992', false],
    ['n1.amount = 10.5', true],
    ['n1.amount > n2.amount', true],
    ['n1.at < n2.at', true],
    ["n1.at < '2024-01-02T04:04:05.2+01:00'", true],
    ["n1.at = '2024-01-02T03:04:05.123456Z'", true],
    ['n1.ok = true AND n2.ok = FALSE', true],
    ['n1.none IS NULL and n2.none is not null', true],
    ["n1.none = 'x'", null],
    ["n1.none = 'x' OR n1.region = 'eu'", true],
    ["NOT n1.none = 'x'", null],
    ['n1.none != NULL', null],
    ["east-1.region = 'eu'", true],
    ["n3.region = 'eu'", null],
    [`n1."Odd ""Name" = '007'`, true],
    ["n1.amount <> 'abc'", null],
    ['n1.amount >= -1e3', true],
  ];
  for (const [text, value] of cases) {
    it(text, () => assert.equal(parseExpression(text, names)(lookup), value));
  }

  const wrong: readonly [text: string, message: RegExp][] = [
    ['', /value is expected/],
    ["region = 'eu'", /"region" is not a node/],
    ["n1.regoin = 'eu'", /no compared column "regoin"/],
    ["n1.region = 'eu", /cannot be read/],
    ["n1.region 'eu'", /comparison is expected/],
    ["(n1.region = 'eu'", /\) is expected/],
    ["n1.region = 'eu' n2.region = 'eu'", /not expected/],
    ["n1.region LIKE 'e%'", /comparison is expected|cannot be read/],
    ['n1.region IS 5', /NULL is expected/],
    ["n1.region = 'eu'; DROP TABLE t", /cannot be read/],
  ];
  for (const [text, message] of wrong) {
    it(`refuses ${JSON.stringify(text)}`, () => {
      assert.throws(() => parseExpression(text, names), message);
    });
  }
});

describe('values of a plan', () => {
  const cases: readonly [ValueKind, string, string, number | null][] = [
    ['number', '1.00', '1', 0],
    ['number', '-2', '1e-3', -1],
    ['number', 'NaN', 'Infinity', 1],
    ['number', 'x', '1', null],
    ['time', 'infinity', '9999-12-31', 1],
    ['time', '0044-03-15 BC', '0001-01-01', -1],
    ['time', '2024-03-31 01:00:00+02', '2024-03-30T23:00:00Z', 0],
    ['time', '2024-02-30x', '2024-01-01', null],
    ['bool', 't', 'true', 0],
    ['text', '007', '7', -1],
  ];
  for (const [kind, a, b, order] of cases) {
    it(`${kind}: ${a} and ${b}`, () => assert.equal(compareValues(kind, a, b), order));
  }
});
