import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, describe, it } from 'node:test';
import fc from 'fast-check';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { SimulatedDaemon, type Coverage } from './simulated-daemon.js';
import { SimulatedServer, simulatedTable, type Operation } from './simulated-server.js';

const KEYS = { min: -12, max: 12 };
const RUNS = Number(process.env['ACED_TEST_RUNS'] ?? 150);

const operation: fc.Arbitrary<Operation> = fc.record({
  table: fc.nat({ max: 4 }),
  kind: fc.oneof(
    { weight: 10, arbitrary: fc.constant('write' as const) },
    { weight: 3, arbitrary: fc.constantFrom('rename' as const, 'delete' as const) },
    { weight: 1, arbitrary: fc.constant('truncate' as const) },
  ),
  key: fc.integer(KEYS),
  other: fc.integer(KEYS),
  value: fc.nat({ max: 1000 }),
});

const pick = fc.nat({ max: 7 });
const table = fc.nat({ max: 4 });

function event<K extends string, F extends object>(
  kind: K,
  fields: { [P in keyof F]: fc.Arbitrary<F[P]> },
): fc.Arbitrary<F & { kind: K }> {
  return fc.record({ ...fields, kind: fc.constant(kind) }) as unknown as fc.Arbitrary<
    F & { kind: K }
  >;
}

const anyEvent = fc.oneof(
  { weight: 2, arbitrary: event('begin', {}) },
  { weight: 1, arbitrary: event('abort', { pick }) },
  {
    weight: 10,
    arbitrary: event('commit', { pick, operations: fc.array(operation, { maxLength: 5 }) }),
  },
  { weight: 8, arbitrary: event('show', { pick }) },
  { weight: 1, arbitrary: event('other log', {}) },
  { weight: 14, arbitrary: event('stream', { count: fc.integer({ min: 1, max: 12 }) }) },
  { weight: 1, arbitrary: event('keepalive', {}) },
  { weight: 3, arbitrary: event('flush', {}) },
  { weight: 1, arbitrary: event('disconnect', {}) },
  { weight: 1, arbitrary: event('crash', {}) },
  { weight: 1, arbitrary: event('split', { table, key: fc.integer(KEYS) }) },
  { weight: 1, arbitrary: event('merge', { table, pick, length: fc.constantFrom(1, 2) }) },
  {
    weight: 6,
    arbitrary: event('start reading', {
      table,
      mask: fc.nat({ max: 255 }),
      keepsRows: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: event('start reading', { table, mask: fc.constant(0), keepsRows: fc.boolean() }),
  },
  { weight: 9, arbitrary: event('run reading', { pick }) },
  { weight: 9, arbitrary: event('answer reading', { pick }) },
  { weight: 6, arbitrary: event('answer question', { pick }) },
);
type Event = typeof anyEvent extends fc.Arbitrary<infer T> ? T : never;

type Effects = {
  readonly [K in Event['kind']]: (
    server: SimulatedServer,
    daemon: SimulatedDaemon,
    one: Extract<Event, { kind: K }>,
  ) => void;
};

const EFFECTS: Effects = {
  begin: (server) => server.begin(),
  abort: (server, _, one) => server.abort(one.pick),
  commit: (server, _, one) => server.commit(one.pick, one.operations),
  show: (server, _, one) => server.show(one.pick),
  'other log': (server) => server.writeOther(),
  stream: (_, daemon, one) => daemon.stream(one.count),
  keepalive: (_, daemon) => daemon.keepalive(),
  flush: (_, daemon) => daemon.flush(),
  disconnect: (_, daemon) => daemon.disconnect(),
  crash: (_, daemon) => daemon.crash(),
  split: (_, daemon, one) => daemon.split(one.table, one.key),
  merge: (_, daemon, one) => daemon.merge(one.table, one.pick, one.length),
  'start reading': (_, daemon, one) => daemon.startReading(one.table, one.mask, one.keepsRows),
  'run reading': (_, daemon, one) => daemon.runReading(one.pick),
  'answer reading': (_, daemon, one) => daemon.answerReading(one.pick),
  'answer question': (_, daemon, one) => daemon.answerQuestion(one.pick),
};

function apply(server: SimulatedServer, daemon: SimulatedDaemon, one: Event): void {
  const effect = EFFECTS[one.kind] as (s: SimulatedServer, d: SimulatedDaemon, e: Event) => void;
  effect(server, daemon, one);
}

const write = { kind: 'write', key: 0, other: 0, value: 0 } as const;

/** Histories that have failed. */
const KNOWN: readonly Event[][] = [
  // The snapshot that shows the commit arrives before one that was taken earlier and does not.
  [
    { kind: 'commit', pick: 0, operations: [{ ...write, table: 1 }] },
    { kind: 'stream', count: 2 },
    { kind: 'start reading', table: 0, mask: 255, keepsRows: true },
    { kind: 'start reading', table: 1, mask: 255, keepsRows: true },
    { kind: 'run reading', pick: 1 },
    { kind: 'show', pick: 0 },
    { kind: 'run reading', pick: 0 },
    { kind: 'answer reading', pick: 0 },
    { kind: 'answer reading', pick: 0 },
  ],
  // Blocks are joined while a transaction that emptied them waits for another table's keys.
  [
    {
      kind: 'commit',
      pick: 0,
      operations: [
        { ...write, table: 4, kind: 'truncate' },
        { ...write, table: 4 },
        { ...write, table: 2 },
      ],
    },
    { kind: 'stream', count: 4 },
    { kind: 'merge', table: 4, pick: 0, length: 2 },
    { kind: 'answer question', pick: 0 },
  ],
  // A commit that no snapshot shows is durable here, and the process starts again.
  [
    { kind: 'commit', pick: 0, operations: [{ ...write, table: 1 }] },
    { kind: 'stream', count: 2 },
    { kind: 'flush' },
    { kind: 'crash' },
    { kind: 'start reading', table: 1, mask: 255, keepsRows: false },
    { kind: 'run reading', pick: 0 },
    { kind: 'answer reading', pick: 0 },
  ],
];

describe('leaves under any history', () => {
  let directory: string;

  before(async () => {
    directory = await scratchDirectory();
  });
  after(async () => {
    await removeDirectory(directory);
  });

  it('are exact wherever they are not dirty, and exact everywhere once the dirty are read', async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    const settle = async (): Promise<void> => {
      for (let i = 0; i < 4; i++) await new Promise(setImmediate);
      t.mock.timers.tick(20);
      await new Promise(setImmediate);
    };
    const coverage: Coverage = {
      ...{ clean: 0, kept: 0, dirty: 0, retried: 0, shownBeforeStreamed: 0 },
      ...{ heldAtDisconnect: 0, hiddenAtCrash: 0 },
    };
    let run = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(anyEvent, { maxLength: 120, size: 'max' }), async (events) => {
        const server = new SimulatedServer([
          simulatedTable(1, 'default', 'integer'),
          simulatedTable(2, 'full', 'integer'),
          simulatedTable(3, 'default', 'server'),
          simulatedTable(4, 'full', 'server'),
          simulatedTable(5, 'index', 'integer'),
        ]);
        const daemon = new SimulatedDaemon(server, path.join(directory, String(run++)), coverage);
        try {
          await daemon.readAll(settle);
          for (const one of events) {
            apply(server, daemon, one);
            await settle();
            daemon.check();
          }
          await daemon.finish(settle);
        } finally {
          daemon.close();
        }
      }),
      {
        numRuns: RUNS,
        examples: KNOWN.map((events) => [events]),
        endOnFailure: process.env['ACED_TEST_SHRINK'] === undefined,
      },
    );
    t.diagnostic(JSON.stringify(coverage));
    for (const [what, count] of Object.entries(coverage)) assert.ok(count > 0, what);
  });
});
