import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { clip, fit, printable, widthOf } from '../../src/cli/cell-text.js';
import { paint, renderTop, worstFirst, type TopView } from '../../src/cli/top-frame.js';
import { TopHistory, type Reading } from '../../src/cli/top-history.js';
import type { Verdict } from '../../src/protocol/commands.js';
import type { IncidentState } from '../../src/protocol/drift.js';
import type { TopNode, TopResult, TopTable } from '../../src/protocol/top.js';

const NOW_MS = Date.UTC(2026, 0, 2, 3, 4, 5);
const HOUR_MS = 3_600_000;
const HOSTILE = 'public.\u001b]0;owned\u0007 \u202etxt\n注文一覧';

function node(name: string, more: Partial<TopNode> = {}): TopNode {
  return {
    name,
    server: { host: 'db', port: 5432, database: 'app' },
    state: 'streaming',
    position: '0/400',
    positionBytes: 1024,
    endBytes: 1024,
    lagBytes: 0,
    heldBytes: 0,
    slot: 'aced_demo',
    slotPid: 1,
    error: null,
    changes: 0,
    ...more,
  };
}

function table(name: string, verdict: Verdict | null, more: Partial<TopTable> = {}): TopTable {
  return {
    table: name,
    state: 'live',
    verdict,
    sinceMs: NOW_MS - 60_000,
    reason: null,
    openRows: 0,
    blocks: 8,
    dirtyBlocks: 0,
    incident: null,
    ...more,
  };
}

function incident(of: string, openedAtMs: number): IncidentState {
  return {
    id: `0123456789-${of}`,
    table: of,
    revision: 1,
    openedAtMs,
    acknowledgedBy: null,
    certificate: {
      trigger: 'change',
      cause: 'local_write',
      detectedAfterMs: 1,
      positions: {},
      lastWrites: {},
      hints: [],
    },
    kind: 'different',
    rows: 7,
    missing: 0,
    extra: 0,
    different: 7,
    agreement: [['n1', 'n3'], ['n2']],
    keys: [],
  };
}

function reading(result: Partial<TopResult> = {}): Reading {
  return {
    atMs: NOW_MS,
    steadyMs: NOW_MS,
    result: {
      cluster: 'demo',
      pid: 7,
      version: '1.2.3',
      uptimeSeconds: 61,
      nodes: [node('n1'), node('n2'), node('n3')],
      subscriptions: [],
      conditions: [],
      problems: [],
      tables: [table('public.t', 'match')],
      incidents: [],
      map: null,
      ...result,
    },
  };
}

function view(of: Reading, more: Partial<TopView> = {}): TopView {
  const history = new TopHistory();
  history.add(of);
  const size = { columns: 80, rows: 24 };
  return { reading: of, history, selected: null, notice: null, isLive: true, ...size, ...more };
}

const screen = (of: TopView): string[] => paint(renderTop(of).lines, false);

describe('a frame of acectl top', () => {
  const map = {
    table: 'public.a',
    blocks: 80,
    differing: [0, 2, 0, 0, 0, 0, 0, 0],
    nodes: {
      n1: {
        dirty: [0, 0, 3, 0, 0, 0, 0, 0],
        oldestProofMs: [1, 2, 30, 200, 0, 0.5, 0.5, 0.5].map((hours) =>
          hours === 0 ? 0 : NOW_MS - (hours * HOUR_MS) / 1.5,
        ),
      },
    },
  };

  it('shows nodes, tables, incidents and blocks on 80 columns', () => {
    const shown = screen(
      view(
        reading({
          nodes: [node('n1'), node('n2', { state: 'waiting', lagBytes: 2048 })],
          tables: [table('public.b', 'match'), table('public.a', 'drift', { openRows: 2 })],
          incidents: [incident('public.a', NOW_MS - 5_000)],
          problems: [{ kind: 'different', subject: 'public.a', message: 'differs: incident x' }],
          map,
        }),
      ),
    );
    assert.equal(shown.length, 24);
    const text = shown.join('\n');
    assert.match(text, /^demo: aced 1\.2\.3, pid 7, up 61 s +03:04:05$/m);
    assert.match(text, /^2 tables: 1 drift, 1 match; 1 incident$/m);
    assert.match(text, /^public\.a: differs: incident x$/m);
    assert.match(text, /^n2 +waiting +2\.0 KiB/m);
    assert.match(text, /^public\.a +drift +60 s +2 +0 +8 +live$/m);
    assert.match(text, /^public\.a +7 +different +5 s +01234567 +local_write +n1 n3 \| n2$/m);
    assert.match(text, /^Blocks of public\.a: 80, 10 in a place$/m);
    assert.match(text, /^n1 {10}\.Xd\+\?\.\.\.$/m);
    assert.match(shown.at(-1) ?? '', /^q quit .* table 1 of 2$/);
    assert.ok(text.indexOf('public.a ') < text.indexOf('public.b '), 'the worst first');
  });

  it('tells how long ago each range was read', () => {
    const hours = [0.5, 2, 30, 200, 0];
    const nodes = {
      n1: {
        dirty: hours.map(() => 0),
        oldestProofMs: hours.map((one) => (one === 0 ? 0 : NOW_MS - one * HOUR_MS)),
      },
    };
    const of = (state: TopTable['state']): string[] =>
      screen(
        view(
          reading({
            tables: [table('public.a', 'match', { state })],
            map: { table: 'public.a', blocks: 5, differing: hours.map(() => 0), nodes },
          }),
        ),
      );
    assert.ok(of('live').includes('n1          .:+#?'));
    assert.ok(of('stale').includes('n1          ~~~~~'));
  });

  it('has no line that is wider, and no more lines, than the terminal', () => {
    const tables = Array.from({ length: 400 }, (_, i) =>
      table(`${HOSTILE}${i}${'長'.repeat(i % 90)}`, i % 3 === 0 ? 'drift' : 'match', {
        reason: HOSTILE,
      }),
    );
    const busy = reading({
      nodes: Array.from({ length: 20 }, (_, i) => node(`node-${i}-${'n'.repeat(i)}`)),
      tables,
      incidents: tables.slice(0, 100).map((one, i) => incident(one.table, NOW_MS - i)),
      problems: [{ kind: 'trouble', subject: HOSTILE, message: HOSTILE }],
    });
    for (const of of [busy, reading({ nodes: [], tables: [] })]) {
      for (const columns of [1, 2, 7, 20, 40, 79, 80, 81, 200]) {
        for (const rows of [1, 2, 5, 10, 24, 50, 500]) {
          const shown = screen(view(of, { columns, rows, notice: HOSTILE }));
          assert.equal(shown.length, rows, `${columns}x${rows}`);
          for (const line of shown) {
            assert.ok(widthOf(line) <= columns, `${columns}x${rows}: ${line}`);
            assert.doesNotMatch(line, /[\p{Cc}\p{Cf}]/u);
          }
        }
      }
    }
  });

  it('turns the page with the table that is chosen', () => {
    const tables = Array.from({ length: 50 }, (_, i) =>
      table(`t${String(i).padStart(2, '0')}`, 'match'),
    );
    const { pageRows } = renderTop(view(reading({ tables })));
    assert.ok(pageRows >= 4 && pageRows < 24, String(pageRows));
    const selected = `t${String(pageRows).padStart(2, '0')}`;
    const shown = screen(view(reading({ tables }), { selected }));
    assert.ok(!shown.some((line) => line.startsWith('t00 ')));
    assert.match(shown.join('\n'), new RegExp(`table ${pageRows + 1} of 50`));
  });

  it('shows all tables where nobody says how many lines there are', () => {
    const tables = Array.from({ length: 300 }, (_, i) => table(`t${i}`, 'match'));
    const shown = screen(view(reading({ tables }), { rows: Infinity, isLive: false }));
    assert.equal(shown.filter((line) => /^t\d+ /.test(line)).length, 300);
    assert.ok(!shown.join('\n').includes('q quit'));
  });

  it('colours nothing unless it is wanted', () => {
    const { lines } = renderTop(view(reading({ tables: [table('public.t', 'drift')] })));
    assert.ok(!paint(lines, false).join('').includes('\u001b'));
    assert.ok(paint(lines, true).join('').includes('\u001b[31m  drift'));
  });
});

describe('the order of tables', () => {
  it('is the worst first, then by name; what is in flight for a moment moves nothing', () => {
    const ago = (ms: number): Partial<TopTable> => ({ sinceMs: NOW_MS - ms });
    const tables = [
      table('a', 'match'),
      table('b', 'in_flight', ago(1_000)),
      table('c', 'in_flight', ago(60_000)),
      table('d', null),
      table('e', 'unverified'),
      table('f', 'starved'),
      table('g', 'schema_mismatch'),
      table('i', 'drift'),
      table('h', 'drift'),
    ];
    const names = worstFirst(reading({ tables })).map((one) => one.table);
    assert.deepEqual(names, ['h', 'i', 'g', 'f', 'e', 'd', 'c', 'a', 'b']);
  });
});

describe('rates and lag', () => {
  const at = (atMs: number, of: Partial<TopNode>, pid = 7): Reading => ({
    atMs: NOW_MS,
    steadyMs: atMs,
    result: { ...reading().result, pid, nodes: [node('n1', of)] },
  });

  it('needs two answers of one daemon', () => {
    const history = new TopHistory();
    history.add(at(0, { changes: 100, endBytes: 1_000 }));
    assert.equal(history.pace('n1', 1_000).changesPerSecond, null);
    history.add(at(2_000, { changes: 300, endBytes: 5_000 }));
    const pace = history.pace('n1', 5_000);
    assert.deepEqual([pace.changesPerSecond, pace.walBytesPerSecond], [100, 2_000]);
    history.add(at(3_000, { changes: 5, endBytes: 6_000 }, 8));
    assert.equal(history.pace('n1', 6_000).changesPerSecond, null);
    assert.equal(history.pace('n2', null).changesPerSecond, null);
  });

  it('lags for as long as its position has not been the end of the log', () => {
    const history = new TopHistory();
    for (const second of [0, 1, 2, 3]) {
      history.add(at(second * 1_000, { endBytes: 1_000 + second * 100 }));
    }
    const lag = (position: number): unknown => {
      const { lagMs, isLagLonger } = history.pace('n1', position);
      return [lagMs, isLagLonger];
    };
    assert.deepEqual(lag(1_300), [0, false]);
    assert.deepEqual(lag(1_299), [1_000, false]);
    assert.deepEqual(lag(1_000), [3_000, false]);
    assert.deepEqual(lag(999), [3_000, true]);
  });
});

describe('text in columns', () => {
  it('counts what a terminal shows', () => {
    const cases: [string, number][] = [
      ['abc', 3],
      ['é', 1],
      ['e\u0301', 1],
      ['注文', 4],
      ['ｱ', 1],
      ['한', 2],
      ['👍', 2],
      ['a·b', 3],
    ];
    for (const [text, width] of cases) assert.equal(widthOf(text), width, text);
    assert.equal(clip('注文一覧', 5), '注文~');
    assert.equal(clip('注文一覧', 4), '注~');
    assert.equal(fit('注文', 6), '注文  ');
    assert.equal(fit('7', 3, true), '  7');
    assert.equal(clip('abc', 0), '');
  });

  it('lets nothing through that a terminal obeys', () => {
    assert.equal(printable('a\u001b[31mb\n\u009bc\u202e'), 'a\\u001b[31mb\\u000a\\u009bc\\u202e');
  });
});
