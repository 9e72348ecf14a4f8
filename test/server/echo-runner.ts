import { mkdir, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { sleep } from '../../src/base/abort.js';
import type { IncidentState } from '../../src/protocol/drift.js';
import type { NamesResult } from '../../src/protocol/names.js';
import { AcedError } from '../../src/base/errors.js';
import type {
  CommandContext,
  CommandName,
  CommandOutcomes,
  CommandParams,
  CommandResults,
  CommandRunner,
  DiffResult,
  RepairResult,
  Verdict,
  VerifyResult,
} from '../../src/protocol/commands.js';

export const SERVERS = {
  n1: { host: 'db1', port: 5432, database: 'app' },
  n2: { host: 'db2', port: 5432, database: 'app' },
};

export interface Call {
  readonly name: CommandName;
  readonly params: CommandParams[CommandName];
  readonly inputName: string | undefined;
  readonly inputBytes: number | undefined;
}

/**
 * A CommandRunner for tests of the transport and the command line. The table's name says what is
 * to happen: `match`, `drift`, ..., `fail`, `crash`, `hang`, `stubborn`, `chatty`, `big`.
 */
const INCIDENT: IncidentState = {
  id: '3162d2b6-63a3-459c-be9a-8f8dd228c11f',
  table: 'public.t',
  revision: 2,
  openedAtMs: 0,
  certificate: {
    hints: [],
    trigger: 'change',
    cause: 'local_write',
    detectedAfterMs: 120,
    positions: { n1: '0/1', n2: '0/2' },
    lastWrites: {
      n1: { xid: null, isRemoval: false, commitTime: null, origin: null },
      n2: { xid: '77', isRemoval: false, commitTime: '2026-01-01 00:00:00+00', origin: 'local' },
    },
  },
  acknowledgedBy: null,
  kind: 'extra',
  rows: 1,
  missing: 0,
  extra: 1,
  different: 0,
  agreement: [['n1'], ['n2']],
  keys: [['7']],
};

const STRUCTURE: CommandOutcomes['structure-diff'] = {
  schema: 'public',
  nodes: ['n1', 'n2'],
  differences: [
    {
      kind: 'column',
      object: 'public.t.v',
      fact: 'type',
      rank: 'narrowed',
      values: { n1: 'integer', n2: 'bigint' },
    },
  ],
  counts: { cosmetic: 0, equivalent_differing: 0, narrowed: 1, incompatible: 0, absent: 0 },
  objects: { table: 1, column: 2 },
  leftOut: [],
  warnings: [],
  exitCode: 1,
  timeTakenMs: 5,
};

/** One table of each kind of end. */
const MANY: CommandOutcomes['table-diff-many'] = {
  tables: (['equal', 'different', 'skipped', 'missing', 'failed', 'unproved'] as const).map(
    (end) => ({
      table: `public.${end}`,
      end,
      reason: end === 'equal' ? null : 'why',
      result: null,
    }),
  ),
  warnings: [],
  counts: { equal: 1, different: 1, done: 0, unproved: 1, missing: 1, skipped: 1, failed: 1 },
  files: [],
  timeTakenMs: 5,
};

const TOP: CommandOutcomes['top'] = {
  cluster: 'hub',
  pid: 1,
  version: '1.2.3',
  uptimeSeconds: 61,
  nodes: [],
  subscriptions: [],
  conditions: [],
  problems: [],
  tables: [],
  incidents: [],
  map: null,
};

export class EchoRunner implements CommandRunner {
  readonly calls: Call[] = [];
  cancelled = 0;
  names: NamesResult = { nodes: ['n1', 'n2'], tables: [], incidents: [INCIDENT.id] };
  /** Files that the next diffs make, name -> content. */
  files: ReadonlyMap<string, string | Buffer> = new Map([['t_diffs-20260101000000.json', '{}\n']]);

  async run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    context: CommandContext,
  ): Promise<CommandResults[Name]> {
    this.calls.push({
      name,
      params,
      inputName: context.inputName,
      inputBytes:
        context.inputPath === undefined ? undefined : (await stat(context.inputPath)).size,
    });
    const table = 'table' in params ? (params.table ?? '').replace(/^public\./, '') : '';
    const outcome = await this.#answer(name, table, context);
    return { ...outcome, servers: SERVERS } as unknown as CommandResults[Name];
  }

  async #answer(
    name: CommandName,
    table: string,
    context: CommandContext,
  ): Promise<CommandOutcomes[CommandName]> {
    context.emit({ type: 'log', level: 'info', message: `Table ${table} is comparable` });
    if (table === 'fail') {
      throw new AcedError('NO_SUCH_TABLE', 'no table public.fail', { hint: 'check the name' });
    }
    if (table === 'crash') throw new TypeError('a defect');
    if (table === 'hang') {
      try {
        await sleep(60_000, context.signal);
      } catch (error) {
        this.cancelled += 1;
        throw error;
      }
    }
    // Not a sleep in a test: a command that does not listen to its signal.
    if (table === 'stubborn') await delay(60_000, undefined, { ref: false });
    if (table === 'chatty') {
      for (let done = 0; done <= 200_000; done += 1) {
        context.emit({ type: 'progress', phase: 'Counting', done, total: 200_000 });
        if (done % 1000 === 0) await delay(0);
      }
    }
    switch (name) {
      case 'table-diff':
      case 'mtree-table-diff':
      case 'table-rerun':
        return this.#diff(table, context);
      case 'table-repair':
        return repair(table);
      case 'mtree-build':
        return { table, blocks: 3, rows: { n1: 10, n2: 10 }, timeTakenMs: 5 };
      case 'mtree-update':
        return {
          table,
          refreshedBlocks: { n1: 1, n2: 0 },
          splitBlocks: 0,
          mergedBlocks: 0,
          timeTakenMs: 5,
        };
      case 'mtree-verify':
        return verified(table === '' ? ['t', 'u'] : [table]);
      case 'status':
        return {
          cluster: 'hub',
          daemon: true,
          pid: process.pid,
          version: '1.2.3',
          uptimeSeconds: 61,
          lease: null,
          subscriptions: [],
          conditions: [],
          nodes: [
            {
              name: 'n1',
              server: SERVERS.n1,
              state: 'streaming',
              position: '0/16B3748',
              lagBytes: 2048,
              heldBytes: 16_777_216,
              slot: 'aced_hub',
              slotPid: 77,
              error: null,
            },
          ],
          tables: [
            {
              table: 'public.t',
              state: 'live',
              reason: null,
              blocks: 3,
              oldestProof: '2026-01-02T03:04:05.678Z',
              wrongLeaves: 2,
              nodes: {
                n1: {
                  ...{ rows: 10, dirtyBlocks: 1, root: 'abcdef0123456789' },
                  reading: { by: 'key', reason: '1 blocks are few' },
                },
              },
              lastDiff: null,
              live: null,
            },
          ],
          problems: [],
        };
      case 'top':
        return TOP;
      case 'mtree-init':
      case 'mtree-teardown':
      case 'mtree-teardown-table':
        return { nodes: { n1: 'created', n2: 'already_initialised' } };
      case 'names':
        return this.names;
      case 'drift-list':
      case 'drift-watch':
        return { tables: [], incidents: [] };
      case 'drift-canary':
        return { foundAfterMs: { n1: 120, n2: null } };
      case 'drift-show':
      case 'drift-ack':
        return INCIDENT;
      case 'drift-repair':
        return { ...repair('t'), incident: INCIDENT.id, isResolved: true };
      case 'replication-diff':
        return {
          nodes: ['n1', 'n2'],
          subscriptions: [],
          differences: [],
          problems: [],
          hidden: [],
          warnings: [],
          timeTakenMs: 5,
        };
      case 'doctor':
        return { nodes: ['n1', 'n2'], findings: [], tables: 1, timeTakenMs: 5 };
      case 'tasks':
        return { tasks: [], jobs: [] };
      case 'structure-diff':
        return STRUCTURE;
      case 'table-diff-many':
      case 'mtree-build-many':
      case 'mtree-update-many':
      case 'mtree-verify-many':
      case 'mtree-table-diff-many':
      case 'mtree-teardown-table-many':
        return MANY;
    }
  }

  async #diff(table: string, { reportDir }: CommandContext): Promise<DiffResult> {
    const verdicts: readonly Verdict[] = [
      'drift',
      'in_flight',
      'starved',
      'schema_mismatch',
      'unverified',
    ];
    const verdict = verdicts.find((name) => name === table) ?? 'match';
    const files: string[] = [];
    if (verdict === 'drift') {
      for (const [name, content] of this.files) {
        const path = join(reportDir, name);
        await mkdir(dirname(path), { recursive: true });
        await writeFile(path, content);
        files.push(name);
      }
    }
    return {
      table,
      verdict,
      nodes: ['n1', 'n2'],
      positions: { n1: '0/1', n2: '0/2' },
      differences: verdict === 'drift' ? { 'n1/n2': 99 } : { 'n1/n2': 0 },
      inFlightRows: verdict === 'in_flight' ? 7 : 0,
      rowLimitReached: false,
      excludedColumns: verdict === 'drift' ? [{ name: 'g', reason: 'generated' }] : [],
      warnings: verdict === 'unverified' ? ['node n3 could not be read'] : [],
      files,
      timeTakenMs: 12,
    };
  }
}

function repair(table: string): RepairResult {
  const skipped = table === 'skips' ? 2 : 0;
  const failed = table === 'fails' ? 1 : 0;
  const left = table === 'leaves' ? 3 : 0;
  return {
    table,
    dryRun: false,
    nodes: { n2: { upserted: 5, deleted: 1, skipped, failed, left } },
    warnings: [],
    files: [],
    timeTakenMs: 3,
  };
}

function verified(tables: readonly string[]): VerifyResult {
  return {
    tables: tables.map((table) => ({
      table: `public.${table}`,
      blocks: 3,
      nodes: ['n1', 'n2'],
      provedLeaves: 4,
      rereadLeaves: 1,
      wrongLeaves: table === 'rotten' ? 1 : 0,
      wrong:
        table === 'rotten'
          ? [
              {
                node: 'n2',
                block: 7,
                leaf: { rows: 5, sum: '00000000000000ff' },
                read: { rows: 4, sum: '0000000000000001' },
              },
            ]
          : [],
      isRebuilt: false,
      error: table === 'away' ? 'node n2 is down' : null,
    })),
    timeTakenMs: 5,
  };
}
