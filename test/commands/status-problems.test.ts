import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { statusProblems } from '../../src/commands/status-problems.js';
import type { TableStatus } from '../../src/protocol/commands.js';

const AT = '2026-01-01T00:00:00.000Z';
const TABLE: TableStatus = {
  table: 'public.t',
  state: 'live',
  reason: null,
  blocks: 1,
  oldestProof: null,
  wrongLeaves: 0,
  nodes: {},
  lastDiff: null,
  live: null,
};

function live(verdict: 'match' | 'drift' | 'in_flight', sinceMs: number): TableStatus['live'] {
  return { verdict, sinceMs, reason: null, positions: {}, openRows: 0, incident: null };
}

function kinds(table: Partial<TableStatus>): string[] {
  const facts = {
    cluster: 'x',
    daemon: true,
    isInitialised: true,
    socketPath: '/run/x.sock',
    nodes: [],
    subscriptions: [],
    conditions: [],
    tables: [{ ...TABLE, ...table }],
  };
  return statusProblems(facts).map(({ kind }) => kind);
}

describe('what spoils a status', () => {
  const drift = {
    ...{ verdict: 'drift' as const, at: AT, differences: { 'n1/n2': 1 } },
    isBeyondTree: false,
  };
  const found = Date.parse(AT);
  const cases: readonly [string, Partial<TableStatus>, string[]][] = [
    ['a table that was never compared: nothing', {}, []],
    ['a diff that matched: nothing', { lastDiff: { ...drift, verdict: 'match' } }, []],
    ['a diff that found drift', { lastDiff: drift }, ['different']],
    [
      'one that the streams do not see: a match since before says nothing of it',
      { lastDiff: drift, live: live('match', found - 1) },
      ['different'],
    ],
    ['one that is over since: nothing', { lastDiff: drift, live: live('match', found + 1) }, []],
    [
      'one of columns that the streams tell nothing of',
      { lastDiff: { ...drift, isBeyondTree: true }, live: live('match', found + 1) },
      ['different'],
    ],
    [
      'drift that both have found: once',
      { lastDiff: drift, live: live('drift', 1) },
      ['different'],
    ],
    ['a diff without proof', { lastDiff: { ...drift, verdict: 'starved' } }, ['trouble']],
    ['a build that goes on', { state: 'building' }, ['trouble']],
    ['a rebuild beside a good tree: nothing', { state: 'rebuilding' }, []],
    ['a stale tree', { state: 'stale', reason: 'no key' }, ['trouble']],
    ['a build that failed', { state: 'failed', reason: 'disk' }, ['trouble']],
  ];
  for (const [title, table, expected] of cases) {
    it(title, () => assert.deepEqual(kinds(table), expected));
  }
});
