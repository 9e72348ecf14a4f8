import assert from 'node:assert/strict';
import type { RowRemoval } from '../../src/drift/row-removals.js';
import { describe, it } from 'node:test';
import type { ConditionChange } from '../../src/cluster/conditions.js';
import type { FetchedRow } from '../../src/diff/settle.js';
import { conditionEvent } from '../../src/drift/condition-event.js';
import { driftEvent, eventLine, type EventScope } from '../../src/drift/drift-event.js';
import {
  agreementOf,
  BlockCounter,
  kindOf,
  type RowOnNodes,
} from '../../src/drift/drifted-block.js';
import {
  causeOf,
  TableIncident,
  type Findings,
  type IncidentEvent,
} from '../../src/drift/incident.js';
import type { BirthCertificate } from '../../src/protocol/drift.js';
import { lineOf as logged, validateEvent } from './event-schema.js';

const NODES = ['n1', 'n2', 'n3'];
const CERTIFICATE: BirthCertificate = {
  hints: [],
  trigger: 'change',
  cause: 'local_write',
  detectedAfterMs: 12,
  positions: { n1: '0/1', n2: '0/2', n3: '0/A' },
  lastWrites: {
    n1: { xid: '7', isRemoval: false, commitTime: '2026-01-01 00:00:00+00', origin: 'local' },
    n2: { xid: null, isRemoval: false, commitTime: null, origin: null },
  },
};

/** `1` and `2`: digests; `-`: no such row. Behind a colon the origin, empty: unknown. */
function row(...images: string[]): RowOnNodes {
  return images.map((text): FetchedRow | null => {
    const [digest = '', origin] = text.split(':');
    if (digest === '-') return null;
    const from = origin === undefined ? '' : origin === '' ? null : origin;
    return { digest, version: '1', values: [], commitTs: null, origin: from };
  });
}

function findings(
  blocks: readonly number[] | null,
  drifted: Readonly<Record<number, readonly RowOnNodes[]>>,
  keys: readonly string[] = [],
): Findings {
  const counters = Object.entries(drifted).map(([block, rows]) => {
    const counter = new BlockCounter();
    rows.forEach((one, i) => counter.add(`${block}/${i}`, one, NODES));
    return [Number(block), counter] as const;
  });
  return {
    blocks: blocks === null ? null : new Set(blocks),
    isComplete: blocks === null,
    drifted: new Map(counters),
    undecided: new Map(),
    keys: keys.map((key) => [key]),
    certificate: CERTIFICATE,
  };
}

function incidentOf(): TableIncident {
  let last = 0;
  return new TableIncident('public.t', () => `id-${++last}`);
}

const brief = (events: readonly IncidentEvent[]): string[] =>
  events.map(({ event, state }) => `${event} ${state.id} #${state.revision} ${state.rows}`);

const ONE = row('1', '2', '1');

describe('a row that differs', () => {
  const cases: [images: string[], kind: string, agreement: string][] = [
    [['1', '2', '1'], 'different', '[["n1","n3"],["n2"]]'],
    [['1', '2', '3'], 'different', '[["n1"],["n2"],["n3"]]'],
    [['1', '-', '1'], 'missing', '[["n1","n3"],["n2"]]'],
    [['-', '2', '-'], 'extra', '[["n1","n3"],["n2"]]'],
    [['1', '-', '2'], 'missing', '[["n1"],["n2"],["n3"]]'],
  ];
  for (const [images, kind, agreement] of cases) {
    it(`${images.join(' ')} is ${kind}`, () => {
      assert.equal(kindOf(row(...images)), kind);
      assert.equal(JSON.stringify(agreementOf(row(...images), NODES)), agreement);
    });
  }

  const causes: [images: string[], cause: string][] = [
    [['1', '2', '2:pg_1'], 'conflict'],
    [['1', '2:pg_1', '3:pg_1'], 'local_write'],
    [['1', '1:pg_1', '2:pg_1'], 'lacking'],
    [['1', '1:pg_1', '-'], 'lacking'],
    [['-', '2', '-'], 'local_write'],
    [['1', '2:other', '1:pg_1'], 'foreign_origin'],
    [['1', '2:', '1:pg_1'], 'unknown'],
    [['1:pg_1', '2:pg_1', '1:pg_1'], 'unknown'],
  ];
  const removals: [images: string[], removal: string, cause: string][] = [
    [['1', '-', '1:pg_1'], 'DELETE', 'local_write'],
    [['1', '-', '1:pg_1'], 'DELETE under other', 'foreign_origin'],
    [['1', '-', '1:pg_1'], 'DELETE under pg_1', 'lacking'],
    [['1', '-', '1:pg_1'], 'earlier DELETE', 'conflict'],
    [['1', '-', '1:pg_1'], 'TRUNCATE', 'truncate'],
    [['1', '-', '1:pg_1'], 'earlier TRUNCATE', 'lacking'],
  ];
  for (const [images, removal, cause] of removals) {
    it(`${images.join(' ')} after a ${removal} was a ${cause}`, () => {
      const rows = row(...images).map((image) =>
        image === null ? null : { ...image, commitTs: '2026-01-01 00:00:01+00' },
      );
      const seconds = removal.startsWith('earlier') ? 0 : 2;
      const taken: RowRemoval = {
        node: 1,
        xid: 700,
        commitTimeUs: BigInt(Date.UTC(2026, 0, 1, 0, 0, seconds)) * 1000n,
        origin: removal.split(' under ')[1] ?? '',
        isTruncate: removal.includes('TRUNCATE'),
      };
      assert.equal(
        causeOf(rows, [null, taken, null], (origin) => !origin.startsWith('pg_')),
        cause,
      );
    });
  }
  for (const [images, cause] of causes) {
    it(`${images.join(' ')} was a ${cause}`, () => {
      assert.equal(
        causeOf(row(...images), [], (origin) => !origin.startsWith('pg_')),
        cause,
      );
    });
  }
});

describe('the incident of a table', () => {
  it('opens, grows, shrinks and ends; every event has the next revision', () => {
    const incident = incidentOf();
    assert.deepEqual(brief(incident.apply(findings([1], {}), 0)), []);
    assert.deepEqual(brief(incident.apply(findings([1], { 1: [ONE] }), 10)), [
      'drift_opened id-1 #1 1',
    ]);
    assert.deepEqual(brief(incident.apply(findings([2], { 2: [ONE, ONE] }), 5000)), [
      'drift_updated id-1 #2 3',
    ]);
    assert.deepEqual(brief(incident.apply(findings([1], {}), 10_000)), ['drift_updated id-1 #3 2']);
    assert.deepEqual(brief(incident.apply(findings([2], {}), 15_000)), [
      'drift_resolved id-1 #4 0',
    ]);
    assert.equal(incident.state, null);
    assert.deepEqual(brief(incident.apply(findings([2], { 2: [ONE] }), 16_000)), [
      'drift_opened id-2 #1 1',
    ]);
  });

  it('is told at most once a second in its first minute, once a minute after that, and never too little', () => {
    const incident = incidentOf();
    incident.apply(findings([0], { 0: [ONE] }), 0);
    let told = 0;
    const rows: RowOnNodes[] = [ONE];
    for (let nowMs = 100; nowMs < 10_000; nowMs += 100) {
      rows.push(ONE);
      told += incident.apply(findings([0], { 0: rows }), nowMs).length;
    }
    assert.equal(told, 9);
    assert.deepEqual(brief(incident.due(11_000)), [`drift_updated id-1 #11 ${rows.length}`]);
    assert.deepEqual(incident.due(12_000), [], 'nothing new');
    rows.push(ONE);
    assert.deepEqual(incident.apply(findings([0], { 0: rows }), 71_000).length, 1);
    rows.push(ONE);
    assert.deepEqual(incident.apply(findings([0], { 0: rows }), 72_000), []);
    assert.deepEqual(incident.due(130_000), []);
    assert.deepEqual(brief(incident.due(131_000)), [`drift_updated id-1 #13 ${rows.length}`]);
  });

  it('reminds hourly, and of what is the same says nothing', () => {
    const incident = incidentOf();
    incident.apply(findings([0], { 0: [ONE] }, ['7']), 0);
    assert.deepEqual(incident.apply(findings([0], { 0: [ONE] }, ['7']), 5_000), []);
    assert.deepEqual(incident.due(3_599_999), []);
    assert.deepEqual(brief(incident.due(3_600_000)), ['drift_reminder id-1 #2 1']);
  });

  it('another row in the place of one is told, with its key first', () => {
    const incident = incidentOf();
    incident.apply(findings([0], { 0: [ONE] }, ['7']), 0);
    const [event] = incident.apply(findings([0], { 0: [ONE] }, ['8']), 5_000);
    assert.deepEqual(event?.state.keys, [['8'], ['7']]);
  });

  it('restored, it keeps what was told until the whole table has been compared', () => {
    const before = incidentOf();
    before.apply(findings([0], { 0: [ONE] }), 0);
    const restored = new TableIncident('public.t', () => 'other', before.state);
    assert.deepEqual(brief(restored.remind(10)), ['drift_reminder id-1 #2 1']);
    assert.deepEqual(restored.apply(findings([5], {}), 20), []);
    assert.equal(restored.state?.rows, 1);
    assert.deepEqual(brief(restored.apply(findings(null, { 3: [ONE, ONE] }), 5_000)), [
      'drift_updated id-1 #3 2',
    ]);
    assert.deepEqual(brief(restored.apply(findings(null, {}), 9_000)), [
      'drift_resolved id-1 #4 0',
    ]);
  });

  it('restored, it ends with the last block that was compared, when they were looked at bit by bit', () => {
    const before = incidentOf();
    before.apply(findings([0], { 0: [ONE] }), 0);
    const restored = new TableIncident('public.t', () => 'other', before.state);
    assert.deepEqual(restored.apply(findings([0, 1], {}), 10), []);
    const last = { ...findings([2], {}), isComplete: true };
    assert.deepEqual(brief(restored.apply(last, 20)), ['drift_resolved id-1 #2 0']);
  });

  it('follows its blocks through splits and merges', () => {
    const incident = incidentOf();
    incident.apply(findings([1, 2], { 1: [ONE], 2: [ONE] }), 0);
    incident.relayout((block) => [block + 1, block + 1]);
    assert.deepEqual([...incident.blocks], [2, 3]);
    incident.relayout(() => [0, 0]);
    assert.equal(incident.state?.rows, 2);
    assert.deepEqual(brief(incident.apply(findings([0], {}), 5_000)), ['drift_resolved id-1 #2 0']);
  });

  it('has the parts of a block that is split compared: its rows may be in any of them', () => {
    const incident = incidentOf();
    incident.apply(findings([1, 2], { 1: [ONE], 2: [ONE] }), 0);
    assert.deepEqual(
      incident.relayout((block) => (block === 1 ? [1, 3] : [block + 2, block + 2])),
      [1, 2, 3],
    );
    assert.deepEqual(
      brief(incident.apply(findings([1, 2, 3], { 3: [ONE] }), 5_000)),
      [],
      'one row here and one there, as before',
    );
    assert.deepEqual(brief(incident.apply(findings([3, 4], {}), 9_000)), [
      'drift_resolved id-1 #2 0',
    ]);
  });

  it('of rows that cannot be decided on those count on that were known to differ, and no others', () => {
    const incident = incidentOf();
    incident.apply(findings([0], { 0: [ONE, ONE, ONE] }), 0);
    const look = (keys: readonly string[] | null, rows: readonly RowOnNodes[], nowMs: number) =>
      incident.apply(
        {
          ...findings([0], rows.length === 0 ? {} : { 0: rows }),
          undecided: new Map([[0, keys === null ? null : new Set(keys)]]),
        },
        nowMs,
      );
    assert.deepEqual(look(null, [], 2_000), [], 'nothing is known of the block');
    assert.deepEqual(brief(look(['0/1', 'new'], [ONE], 4_000)), ['drift_updated id-1 #2 2']);
    assert.deepEqual(brief(look(['0/1', 'new'], [], 6_000)), ['drift_updated id-1 #3 1']);
    assert.deepEqual(brief(look(['new'], [], 8_000)), ['drift_resolved id-1 #4 0']);
    assert.deepEqual(look(['new'], [], 10_000), [], 'what is in flight opens none');
  });

  it('of more rows than are kept one by one, none leaves while any in their block is undecided', () => {
    const incident = incidentOf();
    const rows = Array.from({ length: 1_500 }, () => ONE);
    incident.apply(findings([0], { 0: rows }), 0);
    const undecided = new Map([[0, new Set(['other'])]]);
    incident.apply({ ...findings([0], {}), undecided }, 2_000);
    assert.equal(incident.state?.rows, 1_500);
    assert.deepEqual(brief(incident.apply(findings([0], {}), 4_000)), ['drift_resolved id-1 #2 0']);
  });

  it('says who mended it', () => {
    const ended = (prepare: (incident: TableIncident) => void): string | null => {
      const incident = incidentOf();
      incident.apply(findings([0], { 0: [ONE] }), 0);
      prepare(incident);
      const [event] = incident.apply(findings([0], {}), 5_000);
      return event?.event === 'drift_resolved' ? event.how : null;
    };
    assert.equal(
      ended(() => undefined),
      'change',
    );
    assert.equal(
      ended((incident) => incident.repaired()),
      'repair',
    );
  });
});

describe('events', () => {
  const scope: EventScope = {
    cluster: 'prod',
    database: 'app',
    nodes: NODES,
    hasKeys: true,
    epoch: null,
  };
  const lineOf = (
    event: IncidentEvent,
    more: Partial<EventScope> = {},
  ): Record<string, unknown> => {
    return logged(driftEvent(event, { ...scope, ...more }));
  };

  it('have the form that the schema says, in each stage', () => {
    const incident = incidentOf();
    const events = [
      ...incident.apply(findings([0], { 0: [ONE] }, ['7']), 0),
      ...incident.apply(findings([0], { 0: [ONE, row('-', '2', '-')] }, ['8']), 2_000),
    ];
    incident.acknowledge('ann');
    events.push(...incident.due(4_000_000), ...incident.apply(findings([0], {}), 4_000_001));
    assert.deepEqual(
      events.map(({ event }) => event),
      ['drift_opened', 'drift_updated', 'drift_reminder', 'drift_resolved'],
    );
    for (const event of events)
      assert.ok(validateEvent(lineOf(event)), JSON.stringify(validateEvent.errors));
    const [opened] = events;
    assert.ok(opened !== undefined);
    assert.equal(
      validateEvent({ ...lineOf(opened), value: 'secret' }),
      false,
      'the schema is closed',
    );
  });

  it('have no keys unless they are asked for', () => {
    const [event] = incidentOf().apply(findings([0], { 0: [ONE] }, ['secret']), 0);
    assert.ok(event !== undefined);
    assert.doesNotMatch(JSON.stringify(lineOf(event, { hasKeys: false, epoch: null })), /secret/);
  });

  it('stay under 4,000 bytes and say that something was left out', () => {
    const nodes = Array.from({ length: 60 }, (_, i) => `a-node-with-a-long-name-${i}`);
    const [event] = incidentOf().apply(
      findings(
        [0],
        { 0: [ONE] },
        Array.from({ length: 10 }, (_, i) => 'é'.repeat(2000) + String(i)),
      ),
      0,
    );
    assert.ok(event !== undefined);
    const line = lineOf(event, { nodes });
    assert.ok(Buffer.byteLength(JSON.stringify(line)) < 4000);
    assert.equal(line['truncated'], true);
    assert.ok(validateEvent(line), JSON.stringify(validateEvent.errors));
  });

  it('stay under 4,000 bytes whatever the names are, as the log writes them', () => {
    // The longest names, of characters that a line has as six bytes each.
    const name = '\u0085'.repeat(31);
    const incident = new TableIncident(`"${name}"."${name}"`, () => 'id');
    const nodes = Array.from({ length: 20 }, (_, i) => `${name}${i}`);
    const [event] = incident.apply(findings([0], { 0: [ONE] }, [name, `${name}2`]), 0);
    assert.ok(event !== undefined);
    const told = driftEvent(event, {
      cluster: name,
      database: name,
      nodes,
      hasKeys: true,
      epoch: null,
    });
    const change: ConditionChange = {
      status: 'open',
      source: 'reach',
      openForMs: 0,
      state: {
        ...{ id: 'id', revision: 1, sinceMs: 0, kind: 'coverage', about: 'table', facts: {} },
        subject: `"${name}"."${name}"`,
        reason: '表\u0085'.repeat(3_000),
      },
    };
    const condition = conditionEvent(change, {
      cluster: name,
      database: name,
      nodes,
      hasKeys: true,
      epoch: null,
    });
    for (const one of [told, condition]) {
      const line = eventLine(one, new Date());
      assert.ok(Buffer.byteLength(line) < 4000, `${Buffer.byteLength(line)} bytes`);
      assert.doesNotMatch(line, /[\u007f-\u009f]/);
    }
  });
});
