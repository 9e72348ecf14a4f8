import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Lsn } from '../../src/base/lsn.js';
import { decideStart, type StartInput } from '../../src/replication/start-decision.js';

const lsn = (value: number): Lsn => BigInt(value) as Lsn;

const LAST = { endLsn: lsn(90), commit: { xid: 7, timeUs: 8n } };

/** Slot confirmed at 100, our position at 100, the server's log ends at 200. */
const BASE = {
  slot: {
    active: false,
    activePid: null,
    walStatus: 'reserved',
    invalidationReason: null,
    confirmedFlushLsn: lsn(100),
  },
  local: { position: lsn(100), systemId: '7', last: LAST },
  server: { systemId: '7', insertLsn: lsn(200) },
} satisfies StartInput;

interface Case {
  readonly name: string;
  readonly input: Partial<StartInput>;
  readonly expected: object;
  readonly reason?: RegExp;
}

const CASES: readonly Case[] = [
  {
    name: 'slot missing, no position: everything is new',
    input: { slot: null, local: null },
    expected: { kind: 'create' },
  },
  {
    name: 'slot missing, position known: forget it and make a new slot',
    input: { slot: null },
    expected: { kind: 'recreate', dropFirst: false },
    reason: /missing/,
  },
  {
    name: 'slot lost, position known',
    input: { slot: { ...BASE.slot, walStatus: 'lost' } },
    expected: { kind: 'recreate', dropFirst: true },
    reason: /lost/,
  },
  {
    name: 'slot lost, no position',
    input: { slot: { ...BASE.slot, walStatus: 'lost' }, local: null },
    expected: { kind: 'recreate', dropFirst: true },
  },
  {
    name: 'slot invalidated (17+): say why',
    input: { slot: { ...BASE.slot, invalidationReason: 'idle_timeout' } },
    expected: { kind: 'recreate', dropFirst: true },
    reason: /idle_timeout/,
  },
  {
    name: 'slot present, no position: rebuild from the slot',
    input: { local: null },
    expected: { kind: 'rebuild', from: lsn(100) },
  },
  {
    name: 'position at the slot: stream from there exactly',
    input: {},
    expected: { kind: 'stream', from: lsn(100), position: lsn(100), proof: null },
  },
  {
    name: 'position past the slot, nothing changed since: what lies between is sent once more',
    input: { local: { ...BASE.local, position: lsn(150) } },
    expected: { kind: 'stream', from: lsn(100), position: lsn(100), proof: null },
  },
  {
    name: 'position past the slot, and our last transaction too: it must be sent once more',
    input: { local: { ...BASE.local, position: lsn(150), last: { ...LAST, endLsn: lsn(140) } } },
    expected: {
      kind: 'stream',
      from: lsn(100),
      position: lsn(140),
      proof: { ...LAST, endLsn: lsn(140) },
    },
  },
  {
    name: 'blocks begun past the slot: nothing can prove that they are of this history',
    input: {
      local: { ...BASE.local, position: lsn(150), last: { endLsn: lsn(140), commit: null } },
    },
    expected: { kind: 'rebuild', from: lsn(100) },
    reason: /begun/,
  },
  {
    name: 'the server did not send our last transaction',
    input: { distrust: 'it was put back' },
    expected: { kind: 'rebuild', from: lsn(100) },
    reason: /put back/,
  },
  {
    name: 'slot past the log of the server, which would leave out what commits below it',
    input: { server: { ...BASE.server, insertLsn: lsn(99) } },
    expected: { kind: 'recreate', dropFirst: true },
    reason: /past the server/,
  },
  {
    name: 'position before the slot: a gap',
    input: { local: { ...BASE.local, position: lsn(99) } },
    expected: { kind: 'rebuild', from: lsn(100) },
    reason: /gap/,
  },
  {
    name: 'slot held by another process: wait',
    input: { slot: { ...BASE.slot, active: true, activePid: 42 } },
    expected: { kind: 'wait', pid: 42 },
    reason: /42/,
  },
  {
    name: 'a lost slot is not waited for',
    input: { slot: { ...BASE.slot, active: true, activePid: 42, walStatus: 'lost' } },
    expected: { kind: 'recreate', dropFirst: true },
  },
  {
    name: 'another database system: our position means nothing there',
    input: { server: { ...BASE.server, systemId: '8' } },
    expected: { kind: 'rebuild', from: lsn(100) },
    reason: /another database system/,
  },
  {
    name: 'restored to an earlier point, or failed over to a standby that lagged',
    input: { local: { ...BASE.local, position: lsn(201) } },
    expected: { kind: 'rebuild', from: lsn(100) },
    reason: /past the server/,
  },
];

describe('decideStart', () => {
  for (const { name, input, expected, reason } of CASES) {
    it(name, () => {
      const { reason: said, ...decision } = decideStart({ ...BASE, ...input });
      assert.deepEqual(decision, expected);
      assert.match(said, reason ?? /./);
    });
  }
});
