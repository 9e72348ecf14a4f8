import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import Sqlite from 'better-sqlite3';
import { silentLogger } from '../../src/base/log.js';
import { Conditions, type ConditionChange } from '../../src/cluster/conditions.js';
import { conditionEvent } from '../../src/drift/condition-event.js';
import { suppressedEvent, type EventScope } from '../../src/drift/drift-event.js';
import { DriftEvents } from '../../src/drift/drift-events.js';
import { Flood } from '../../src/drift/flood.js';
import type { IncidentEvent } from '../../src/drift/incident.js';
import type { Condition, ConditionKind, IncidentState } from '../../src/protocol/drift.js';
import { Store } from '../../src/store/store.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { lineOf, validateEvent } from './event-schema.js';

const HOUR_MS = 3_600_000;
const SCOPE: EventScope = {
  cluster: 'prod',
  database: 'app',
  nodes: ['n1', 'n2'],
  hasKeys: false,
  epoch: null,
};

function condition(subject: string, reason = 'it is stale', kind: ConditionKind = 'coverage') {
  return { kind, about: 'table', subject, reason, facts: { table: subject } } satisfies Condition;
}

function watched(): { conditions: Conditions; told: () => string[]; changes: ConditionChange[] } {
  let ids = 0;
  const conditions = new Conditions(() => `id${++ids}`);
  const changes: ConditionChange[] = [];
  let seen = 0;
  conditions.listen((change) => changes.push(change));
  const told = (): string[] =>
    changes
      .slice(seen, (seen = changes.length))
      .map(
        ({ status, state }) =>
          `${state.id}/${state.revision} ${status} ${state.subject}: ${state.reason}`,
      );
  return { conditions, told, changes };
}

describe('what keeps aced from verifying', () => {
  it('is told once when it begins and once when it is over', () => {
    const { conditions, told, changes } = watched();
    for (const nowMs of [1, 2, 3]) conditions.report('trees', [condition('a')], { nowMs });
    assert.deepEqual(told(), ['id1/1 open a: it is stale']);
    conditions.report('trees', [condition('b')], { nowMs: 10 });
    assert.deepEqual(told(), ['id1/2 over a: it is stale', 'id2/1 open b: it is stale']);
    assert.equal(changes[1]?.openForMs, 9);
    assert.deepEqual(
      conditions.open.map(({ subject }) => subject),
      ['b'],
    );
    conditions.report('trees', [], { nowMs: 11 });
    assert.deepEqual(told(), ['id2/2 over b: it is stale']);
  });

  it('is not told when it is over within its grace', () => {
    const { conditions, told } = watched();
    const at = (nowMs: number, list: Condition[]): void =>
      conditions.report('trees', list, { nowMs, graceMs: 10 });
    at(0, [condition('a')]);
    at(9, [condition('a')]);
    at(9.5, []);
    assert.deepEqual([told(), conditions.open], [[], []]);
    at(20, [condition('a', 'first')]);
    at(25, [condition('a', 'second')]);
    at(31, [condition('a', 'third')]);
    assert.deepEqual(told(), ['id2/1 open a: third']);
  });

  it('is told again with another reason, at most once a minute, and every hour', () => {
    const { conditions, told } = watched();
    const at = (nowMs: number, reason: string): void =>
      conditions.report('trees', [condition('a', reason)], { nowMs });
    at(0, 'one');
    at(1_000, 'two');
    assert.deepEqual(told(), ['id1/1 open a: one']);
    at(60_000, 'two');
    assert.deepEqual(told(), ['id1/2 open a: two']);
    at(60_000 + HOUR_MS - 1, 'two');
    assert.deepEqual(told(), []);
    at(60_000 + HOUR_MS, 'two');
    assert.deepEqual(told(), ['id1/3 open a: two']);
  });

  it('of one source says nothing of what another one reports', () => {
    const { conditions, told } = watched();
    conditions.report('trees', [condition('a')], { nowMs: 1 });
    conditions.report('columns', [condition('a', 'columns')], { nowMs: 2 });
    conditions.report('columns', [], { nowMs: 3 });
    assert.deepEqual(told(), [
      'id1/1 open a: it is stale',
      'id2/1 open a: columns',
      'id2/2 over a: columns',
    ]);
  });

  it('outlives the process: said again under its number, or told to be over', () => {
    const { conditions, told, changes } = watched();
    conditions.report('trees', [condition('a'), condition('b')], { nowMs: 1 });
    told();
    const later = watched();
    for (const { source, state } of changes) later.conditions.restore(source, state);
    later.conditions.report('columns', [], { nowMs: 100 });
    assert.deepEqual(later.told(), []);
    later.conditions.report('trees', [condition('a')], { nowMs: HOUR_MS * 2 });
    assert.deepEqual(later.told(), ['id2/2 over b: it is stale', 'id1/2 open a: it is stale']);
  });
});

describe('events of conditions', () => {
  const kinds: readonly ConditionKind[] = [
    'replication_starved',
    'schema_mismatch',
    'slot_lags',
    'coverage',
  ];
  for (const kind of kinds) {
    it(`${kind} has the form that the schema says`, () => {
      const { conditions, changes } = watched();
      const facts = {
        subscription: 's',
        from: 'n1',
        node: 'n2',
        state: 'down',
        behindBytes: null,
        stateSince: '2026-01-01T00:00:00.000Z',
      };
      conditions.report('x', [{ ...condition('n1 -> n2', 'why', kind), facts }], { nowMs: 1 });
      conditions.report('x', [], { nowMs: 5 });
      const lines = changes.map((change) => lineOf(conditionEvent(change, SCOPE)));
      for (const line of lines) {
        assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
      }
      const over = kind === 'replication_starved' ? 'replication_recovered' : kind;
      assert.deepEqual(
        lines.map(({ event, status, level }) => [event, status, level]),
        [
          [kind, 'open', 'warn'],
          [over, 'over', 'info'],
        ],
      );
      assert.equal(validateEvent({ ...lines[0], value: 1 }), false, 'the schema is closed');
      assert.equal(lines[0]?.['fingerprint'], lines[1]?.['fingerprint']);
    });
  }

  it('stay short when a server says much', () => {
    const { conditions, changes } = watched();
    conditions.report('x', [condition('a', 'é'.repeat(50_000))], { nowMs: 1 });
    const [change] = changes;
    assert.ok(change !== undefined);
    const line = lineOf(conditionEvent(change, SCOPE));
    assert.ok(Buffer.byteLength(JSON.stringify(line)) < 4000);
    assert.ok(validateEvent(line));
  });
});

describe('a flood of incidents', () => {
  const event = (
    name: 'drift_opened' | 'drift_updated',
    table: string,
    revision = 1,
  ): IncidentEvent => ({ event: name, state: stateOf(table, revision) });

  it('passes one by one; what waits is told with its newest state, and how much there is', () => {
    const flood = new Flood();
    const tables = Array.from({ length: 60 }, (_, i) => `t${i}`);
    const passed = tables.filter((table) => flood.admits(event('drift_opened', table), 1000));
    assert.equal(passed.length, 50);
    // An opening that nobody has heard of stays one.
    assert.equal(flood.admits(event('drift_updated', 't59', 2), 1001), false);
    const { events, suppressed } = flood.due(1001);
    assert.deepEqual([events, suppressed?.count], [[], 10]);
    assert.ok(suppressed !== null);
    const line = lineOf(suppressedEvent(suppressed, SCOPE));
    assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
    assert.equal(flood.due(1050).suppressed, null, 'said every ten seconds');
    const later = flood.due(20_000);
    assert.deepEqual(
      later.events.map(({ event: name, state }) => [name, state.table, state.revision]),
      [
        ...tables.slice(50, 59).map((table) => ['drift_opened', table, 1]),
        ['drift_opened', 't59', 2],
      ],
    );
  });

  it('the end of one that was heard of is never replaced by the next one of its table', () => {
    const flood = new Flood();
    const told: string[] = [];
    const tell = (event: IncidentEvent, nowMs: number): void => {
      if (flood.admits(event, nowMs)) told.push(`${event.event} ${event.state.id}`);
    };
    const of = (id: string): IncidentState => ({ ...stateOf('t', 1), id });
    tell({ event: 'drift_opened', state: of('one') }, 1000);
    for (let i = 0; i < 60; i++) flood.admits(event('drift_opened', `other${i}`), 1000);
    tell({ event: 'drift_updated', state: of('one') }, 1001);
    tell({ event: 'drift_resolved', state: of('one'), how: 'change', openForMs: 5 }, 1002);
    tell({ event: 'drift_opened', state: of('two') }, 1003);
    assert.deepEqual(told, ['drift_opened one', 'drift_resolved one']);
    const later = flood.due(60_000).events.filter(({ state }) => state.table === 't');
    assert.deepEqual(
      later.map(({ event: name, state }) => `${name} ${state.id}`),
      ['drift_opened two'],
    );
  });

  it('one that is over before its turn is told as such', () => {
    const flood = new Flood();
    for (let i = 0; i < 50; i++) flood.admits(event('drift_opened', `t${i}`), 1000);
    flood.admits(event('drift_opened', 'late'), 1000);
    flood.admits(
      { event: 'drift_resolved', state: stateOf('late', 2), how: 'change', openForMs: 5 },
      1000,
    );
    assert.deepEqual(
      flood.due(10_000).events.map(({ event: name, state }) => [name, state.table]),
      [['drift_resolved', 'late']],
    );
  });
});

describe('incidents and conditions that cannot be stored', () => {
  it('are told all the same, and stored once that is possible', async () => {
    const directory = await scratchDirectory();
    const store = Store.open(directory, 'prod');
    const [file] = (await readdir(directory)).filter((name) => name.endsWith('.sqlite'));
    const beside = new Sqlite(join(directory, file ?? ''));
    try {
      const told: string[] = [];
      const conditions = new Conditions();
      const events = new DriftEvents({
        ...{ store, conditions, log: silentLogger(), scope: SCOPE, handover: null },
        copy: ({ fields }) => void told.push(String(fields['event'])),
      });
      // Another session makes each write of these fail, as a full disk does.
      for (const table of ['incident', 'condition']) {
        for (const verb of ['INSERT', 'UPDATE', 'DELETE']) {
          beside.exec(`CREATE TRIGGER no_${table}_${verb} BEFORE ${verb} ON ${table}
            BEGIN SELECT RAISE(FAIL, 'full'); END`);
        }
      }
      const state = stateOf('t', 1);
      events.tell([{ event: 'drift_opened', state }]);
      events.tell([{ event: 'drift_opened', state: stateOf('u', 1) }]);
      events.tell([
        { event: 'drift_resolved', state: stateOf('u', 2), how: 'change', openForMs: 5 },
      ]);
      conditions.report('trees', [condition('a')], { nowMs: 1 });
      assert.deepEqual(told, ['drift_opened', 'drift_opened', 'drift_resolved', 'coverage']);
      events.tellDue(10_000);
      assert.equal(store.kept.incident('t'), null);
      for (const table of ['incident', 'condition']) {
        for (const verb of ['INSERT', 'UPDATE', 'DELETE']) {
          beside.exec(`DROP TRIGGER no_${table}_${verb}`);
        }
      }
      events.tellDue(20_000);
      assert.equal(events.restored('t')?.id, state.id);
      assert.equal(events.restored('u'), null);
      assert.equal(store.kept.conditions().length, 1);
    } finally {
      beside.close();
      store.close();
      await removeDirectory(directory);
    }
  });
});

function stateOf(table: string, revision: number): IncidentState {
  return {
    id: `incident of ${table}`,
    table,
    revision,
    openedAtMs: 0,
    acknowledgedBy: null,
    kind: 'extra',
    rows: 1,
    missing: 0,
    extra: 1,
    different: 0,
    agreement: [],
    keys: [],
    certificate: {
      trigger: 'change',
      cause: 'unknown',
      detectedAfterMs: null,
      positions: {},
      lastWrites: {},
      hints: [],
    },
  };
}
