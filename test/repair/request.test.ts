import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import type { DiffFileHead } from '../../src/diff-file/diff-reader.js';
import type { RepairParams } from '../../src/protocol/commands.js';
import { hashOf, repairRequest, repairWay, type RequestFacts } from '../../src/repair/request.js';
import type { TableSpec } from '../../src/table/table-spec.js';

type Flags = Omit<RepairParams, 'table'>;
const FACTS = {
  table: 'public.t',
  clusterNodes: ['n1', 'n2', 'n3'],
  usableNodes: ['n1', 'n2'],
};
const PLAN = 'version: 1\ntables:\n  public.t:\n    default_action: { type: keep_n1 }\n';
const ALL = { inserts: true, updates: true, deletes: true };

function failure(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    assert.ok(error instanceof AcedError);
    assert.ok(error.hint !== undefined, 'every refusal has a remedy');
    return `${error.code}: ${error.message}`;
  }
  return 'nothing was refused';
}

describe('what a repair is asked to do', () => {
  const ways: readonly (readonly [Flags, unknown])[] = [
    [{ sourceOfTruth: 'n1' }, { kind: 'source', source: 'n1', mode: ALL }],
    [
      { sourceOfTruth: 'n2', insertOnly: true },
      { kind: 'source', source: 'n2', mode: { inserts: true, updates: false, deletes: false } },
    ],
    [
      { sourceOfTruth: 'n1', upsertOnly: true },
      { kind: 'source', source: 'n1', mode: { inserts: true, updates: true, deletes: false } },
    ],
    // A switch that is off is not given.
    [
      { sourceOfTruth: 'n1', bidirectional: false, insertOnly: false },
      { kind: 'source', source: 'n1', mode: ALL },
    ],
    [{ bidirectional: true }, { kind: 'bidirectional' }],
    [{ bidirectional: true, insertOnly: true }, { kind: 'bidirectional' }],
    [{ fixNulls: true }, { kind: 'fix-nulls' }],
    [{ undo: true }, { kind: 'undo' }],
  ];
  for (const [flags, way] of ways) {
    it(JSON.stringify(flags), () => {
      assert.deepEqual(repairWay({ table: 't', ...flags }, FACTS), way);
    });
  }

  const refusals: readonly (readonly [Flags, RegExp])[] = [
    [{}, /^BAD_USAGE: no source of truth/],
    [{ sourceOfTruth: '' }, /^BAD_USAGE: no source of truth/],
    [{ sourceOfTruth: 'n9' }, /^UNKNOWN_NODE: --source-of-truth names n9/],
    [{ sourceOfTruth: 'n3' }, /^BAD_USAGE: the source of truth n3 is not among --nodes/],
    [{ sourceOfTruth: 'n1', bidirectional: true }, /--bidirectional and --source-of-truth exclude/],
    [{ sourceOfTruth: 'n1', fixNulls: true }, /--fix-nulls and --source-of-truth exclude/],
    [{ insertOnly: true, upsertOnly: true }, /--insert-only and --upsert-only exclude/],
    [{ bidirectional: true, upsertOnly: true }, /--bidirectional and --upsert-only exclude/],
    [{ bidirectional: true, fixNulls: true }, /--bidirectional and --fix-nulls exclude/],
    [{ fixNulls: true, insertOnly: true }, /--fix-nulls and --insert-only exclude/],
    [{ repairPlan: PLAN, upsertOnly: true }, /--repair-plan and --upsert-only exclude/],
    [{ repairPlan: PLAN, planHash: 'abc' }, new RegExp(`SHA-256 is ${hashOf(PLAN)}, not abc`)],
    [{ sourceOfTruth: 'n1', planHash: 'abc' }, /--plan-hash is given without --repair-plan/],
    [{ undo: true, sourceOfTruth: 'n1' }, /--undo and --source-of-truth exclude/],
    [{ undo: true, stale: 'apply' }, /--undo and --stale exclude/],
    [{ undo: true, recoveryMode: true }, /--undo and --recovery-mode exclude/],
    [{ undo: true, repairPlan: PLAN }, /--undo and --repair-plan exclude/],
  ];
  for (const [flags, message] of refusals) {
    it(`${Object.keys(flags).join(' ')} is refused`, () => {
      assert.match(
        failure(() => repairWay({ table: 't', ...flags }, FACTS)),
        message,
      );
    });
  }
});

describe('the pairs of a diff file', () => {
  const spec = { schema: 'public', name: 't', key: [{ name: 'a' }, { name: 'b' }] };

  function facts(
    head: Partial<DiffFileHead>,
    { source = 'n1', ...changes }: Partial<RequestFacts> = {},
  ): RequestFacts {
    const read = { schema: 'public', table: 't', primaryKey: ['b', 'a'], againstOrigin: null };
    return {
      ...{ source, path: 'd.json', clusterNodes: ['n1', 'n2', 'n3'], isRecovery: false },
      usableNodes: ['n1', 'n2', 'n3'],
      spec: spec as unknown as TableSpec,
      head: { ...read, isLimitReached: false, pairs: [], ...head } as unknown as DiffFileHead,
      ...changes,
    };
  }

  const pairs = (...names: readonly string[]): Pick<DiffFileHead, 'pairs'> => ({
    pairs: names.map((name) => ({ name, rows: {} })),
  });
  const targets = (given: RequestFacts): string[] =>
    repairRequest(given).pairs.map(({ source, target }) => `${source}>${target}`);

  it('are those with the source of truth, or all', () => {
    const all = pairs('n1/n2', 'n1/n3', 'n2/n3');
    assert.deepEqual(targets(facts(all)), ['n1>n2', 'n1>n3']);
    assert.deepEqual(targets(facts(all, { source: 'n3' })), ['n3>n1', 'n3>n2']);
    assert.deepEqual(targets(facts(all, { source: null })), ['n1>n2', 'n1>n3', 'n2>n3']);
    assert.deepEqual(targets(facts({})), []);
  });

  it('without nodes that were not chosen, which is said', () => {
    const given = facts(pairs('n1/n2', 'n1/n3'), { usableNodes: ['n1', 'n2'] });
    assert.deepEqual(targets(given), ['n1>n2']);
    assert.match(repairRequest(given).warnings.join(), /Node n3 is left alone/);
  });

  it('of a file that does not hold all differences, which is said', () => {
    const given = facts({ ...pairs('n1/n2'), isLimitReached: true });
    assert.match(repairRequest(given).warnings.join(), /row limit was reached/);
  });

  const refusals: readonly (readonly [string, RequestFacts, RegExp])[] = [
    ['another table', facts({ table: 'u' }), /^BAD_DIFF_FILE: d.json is about table public.u/],
    ['another schema', facts({ schema: 's' }), /^BAD_DIFF_FILE: d.json is about table s.t/],
    ['another key', facts({ primaryKey: ['a'] }), /^BAD_DIFF_FILE: .*by the key \(a\)/],
    ['no such source', facts(pairs('n2/n3')), /^BAD_DIFF_FILE: d.json has no pair with n1/],
    ['a strange node', facts(pairs('n1/x')), /^UNKNOWN_NODE: the diff file's pair n1\/x names x/],
    ['a lost origin', facts({ againstOrigin: 'n3' }), /^BAD_USAGE: .*--against-origin/],
  ];
  for (const [what, given, message] of refusals) {
    it(`${what} is refused`, () => {
      assert.match(
        failure(() => repairRequest(given)),
        message,
      );
    });
  }
});
