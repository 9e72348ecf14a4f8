import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, describe, it } from 'node:test';
import { startMesh, type Mesh } from '../support/mesh.js';
import { NOTHING, RepairHarness } from './harness.js';

const TABLES = `
CREATE TABLE accounts (id bigint PRIMARY KEY, region text, status text, email text, phone text, amount numeric(12,2), at timestamptz, doc jsonb);
CREATE TABLE pairs ("Id" text, "Or,der" int, v text, w text, PRIMARY KEY ("Or,der", "Id"));
CREATE TABLE written (id int PRIMARY KEY, v text);
`;

let mesh: Mesh;
let harness: RepairHarness;

before(async () => {
  mesh = await startMesh({ nodes: 3, tables: TABLES, settings: { track_commit_timestamp: 'on' } });
  harness = await RepairHarness.create(mesh);
});

after(async () => {
  await harness.close();
  await mesh.stop();
});

async function repair(
  name: string,
  plan: string,
  params: Parameters<RepairHarness['repair']>[2] = {},
): ReturnType<RepairHarness['repair']> {
  const file = await harness.diff('public', name);
  return harness.repair(
    file,
    { schema: 'public', name },
    { repairPlan: plan, nodes: ['n1', 'n2'], ...params },
  );
}

function planOf(table: string, body: string): string {
  const lines = body
    .trim()
    .split('\n')
    .map((line) => `    ${line}`);
  return `version: 1\ntables:\n  public.${table}:\n${lines.join('\n')}\n`;
}

/** All nodes have the same 40 rows. */
async function fresh(): Promise<void> {
  await mesh.query(
    'n1',
    `TRUNCATE accounts; INSERT INTO accounts SELECT i, CASE i % 2 WHEN 0 THEN 'eu' ELSE 'us' END, 'ok', 'e' || i, 'p' || i, i,
    '2024-01-01 00:00:00+00', '{"a": 1}' FROM generate_series(1, 40) i`,
  );
  await mesh.waitForReplication();
}

async function on(node: string, sql: string): Promise<void> {
  await mesh.driftSql(node, sql);
}

async function rows(node: string, sql: string): Promise<(string | null)[][]> {
  return mesh.query(node, sql);
}

describe('a repair plan', () => {
  it('takes overrides before rules, the first rule that matches, then the defaults', async () => {
    await fresh();
    await on(
      'n2',
      "UPDATE accounts SET status = 'n2' WHERE id <= 10; DELETE FROM accounts WHERE id IN (20, 21); INSERT INTO accounts (id, status) VALUES (41, 'extra'), (42, 'extra')",
    );
    const plan = planOf(
      'accounts',
      `
default_action: { type: keep_n1 }
rules:
  - name: eu_from_n2
    diff_type: [row_mismatch, missing_on_n2]
    when: "n1.region = 'eu'"
    action: { type: keep_n2 }
  - name: stray
    diff_type: [deleted_on_n1]
    pk_in: [{ equals: [41, 9007199254740993] }]
    action: { type: delete }
  - name: range
    pk_in: [{ range: { from: 5, to: 7 } }]
    columns_changed: [status]
    action: { type: skip }
row_overrides:
  - name: pinned
    pk: { id: 2 }
    action:
      type: custom
      custom_row: { id: 2, status: "vip {{n1.status}}", email: "{{n2.email}}", phone: null, doc: { b: [1, 2] } }
`,
    );
    const dry = await repair('accounts', plan, { dryRun: true });
    assert.equal(dry.nodes['n2']?.upserted, 5);
    const { nodes, ruleMatches } = await repair('accounts', plan);
    assert.deepEqual(ruleMatches, {
      pinned: 1,
      default_action: 5,
      range: 2,
      eu_from_n2: 5,
      stray: 1,
    });
    // id 2 on both; 1, 3, 9 and 21 from n1; 5 and 7 skipped; 42 is kept by nobody; 20 n2 has not.
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 5, deleted: 1, left: 3 });
    assert.deepEqual(nodes['n1'], { ...NOTHING, upserted: 5, left: 1 });
    assert.deepEqual(
      await rows(
        'n1',
        'SELECT id, status, email, phone, doc::text, amount FROM accounts WHERE id IN (2, 4, 3) ORDER BY 1',
      ),
      [
        ['2', 'vip ok', 'e2', null, '{"b": [1, 2]}', '2.00'],
        ['3', 'ok', 'e3', 'p3', '{"a": 1}', '3.00'],
        ['4', 'n2', 'e4', 'p4', '{"a": 1}', '4.00'],
      ],
    );
    const same =
      'SELECT id, status, email, phone, doc::text, amount FROM accounts WHERE id IN (2, 3, 4) ORDER BY 1';
    assert.deepEqual(await rows('n2', same), await rows('n1', same));
    assert.deepEqual(await rows('n2', 'SELECT id FROM accounts WHERE id > 40'), [['42']]);
    // Nothing echoed.
    await mesh.waitForReplication();
    assert.deepEqual(await rows('n3', "SELECT count(*) FROM accounts WHERE status <> 'ok'"), [
      ['0'],
    ]);
  });

  it('coalesces in the order given, and leaves columns alone that nobody names', async () => {
    await fresh();
    await on('n1', "UPDATE accounts SET email = NULL, phone = 'one' WHERE id = 1");
    await on(
      'n2',
      "UPDATE accounts SET email = 'two', phone = 'two' WHERE id = 1; UPDATE accounts SET status = 'n2', amount = 99 WHERE id = 2",
    );
    const coalesce = planOf(
      'accounts',
      `
rules:
  - { name: c, pk_in: [{ equals: 1 }], action: { type: custom, helpers: { coalesce_priority: [n2, n1] } } }
  - { name: one, pk_in: [{ equals: [2] }], action: { type: custom, custom_row: { status: both } } }
`,
    );
    const { nodes } = await repair('accounts', coalesce);
    assert.deepEqual(nodes['n1'], { ...NOTHING, upserted: 2, left: 1 });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 1, left: 1, alreadyEqual: 1 });
    const sql = 'SELECT id, email, phone, status, amount FROM accounts WHERE id < 3 ORDER BY 1';
    assert.deepEqual(await rows('n1', sql), [
      ['1', 'two', 'two', 'ok', '1.00'],
      ['2', 'e2', 'p2', 'both', '2.00'],
    ]);
    assert.deepEqual(await rows('n2', sql), [
      ['1', 'two', 'two', 'ok', '1.00'],
      ['2', 'e2', 'p2', 'both', '99.00'],
    ]);
  });

  it('picks the freshest by time and by number, not by text', async () => {
    await fresh();
    await on(
      'n1',
      "UPDATE accounts SET at = '2024-06-01 10:00:00+00', amount = 9, status = 'one' WHERE id <= 4",
    );
    await on(
      'n2',
      "UPDATE accounts SET at = '2024-06-01 09:59:59.9+00', amount = 10, status = 'two' WHERE id <= 4; UPDATE accounts SET at = NULL WHERE id = 3; UPDATE accounts SET at = '2024-06-01 10:00:00+00', amount = 9 WHERE id = 4",
    );
    const plan = planOf(
      'accounts',
      `
rules:
  - { name: time, pk_in: [{ equals: [1, 3, 4] }], action: { type: custom, helpers: { pick_freshest: { key: at, tie: n2 } } } }
  - { name: number, pk_in: [{ range: { from: 2, to: 2 } }], action: { type: custom, helpers: { pick_freshest: { key: amount } } } }
`,
    );
    await repair('accounts', plan);
    for (const node of ['n1', 'n2']) {
      assert.deepEqual(
        await rows(node, 'SELECT id, status FROM accounts WHERE id <= 4 ORDER BY 1'),
        [
          ['1', 'one'],
          ['2', 'two'],
          ['3', 'one'],
          ['4', 'two'],
        ],
      );
    }
  });

  it('bidirectional fills what is missing and swaps nothing; delete takes the row from both', async () => {
    await fresh();
    await on(
      'n1',
      "DELETE FROM accounts WHERE id = 1; UPDATE accounts SET status = 'one' WHERE id = 3",
    );
    await on(
      'n2',
      "DELETE FROM accounts WHERE id = 2; UPDATE accounts SET status = 'two' WHERE id IN (3, 4)",
    );
    const plan = planOf(
      'accounts',
      `
default_action: { type: bidirectional }
rules:
  - { name: gone, pk_in: [{ equals: [4] }], action: { type: delete } }
`,
    );
    const { nodes } = await repair('accounts', plan);
    assert.deepEqual(nodes['n1'], { ...NOTHING, upserted: 1, deleted: 1 });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 1, deleted: 1, left: 1 });
    assert.deepEqual(await rows('n1', 'SELECT id, status FROM accounts WHERE id <= 4 ORDER BY 1'), [
      ['1', 'ok'],
      ['2', 'ok'],
      ['3', 'one'],
    ]);
    assert.deepEqual(await rows('n2', 'SELECT id, status FROM accounts WHERE id <= 4 ORDER BY 1'), [
      ['1', 'ok'],
      ['2', 'ok'],
      ['3', 'two'],
    ]);
  });

  it('apply_from replaces, upserts or inserts; never deletes', async () => {
    await fresh();
    await on(
      'n2',
      "DELETE FROM accounts WHERE id = 1; UPDATE accounts SET status = 'two' WHERE id = 2; INSERT INTO accounts (id) VALUES (41)",
    );
    const insert = await repair(
      'accounts',
      planOf('accounts', 'default_action: { type: apply_from, from: n1, mode: insert }'),
    );
    assert.deepEqual(insert.nodes['n2'], { ...NOTHING, upserted: 1, left: 2 });
    const upsert = await repair(
      'accounts',
      planOf('accounts', 'default_action: { type: apply_from, from: n1, mode: upsert }'),
    );
    assert.deepEqual(upsert.nodes['n2'], { ...NOTHING, upserted: 1, left: 1 });
  });

  it('knows nodes by their names, composite keys, and commit times and origins', async () => {
    await mesh.query(
      'n1',
      `INSERT INTO pairs SELECT 'k' || i, i, 'v', 'w' FROM generate_series(1, 9) i`,
    );
    await mesh.waitForReplication();
    await on(
      'n2',
      `UPDATE pairs SET v = 'two' WHERE "Or,der" <= 4; UPDATE pairs SET w = 'two' WHERE "Or,der" = 9`,
    );
    const plan = JSON.stringify({
      version: 1,
      default_action: { type: 'skip' },
      tables: {
        'public.pairs': {
          rules: [
            {
              name: 'tuple',
              pk_in: [
                {
                  equals: [
                    [1, 'k1'],
                    ['2', 'k2'],
                  ],
                },
              ],
              action: { type: 'keep_n2' },
            },
            {
              name: 'one tuple',
              pk_in: [{ equals: [3, 'k3'] }],
              action: { type: 'apply_from', from: 'n1' },
            },
            {
              name: 'range',
              pk_in: [{ range: { from: [4, 'a'], to: [4, 'z'] } }],
              when: `n1."Or,der" = 4 AND n1.commit_ts < n2.commit_ts AND n2.node_origin != 'n1'`,
              action: { type: 'keep_n2' },
            },
            {
              name: 'freshest',
              columns_changed: ['w'],
              action: {
                type: 'custom',
                helpers: { pick_freshest: { key: 'commit_ts', tie: 'n1' } },
              },
            },
          ],
        },
      },
    });
    const { ruleMatches } = await repair('pairs', plan);
    assert.deepEqual(ruleMatches, { tuple: 2, 'one tuple': 1, range: 1, freshest: 1 });
    const sql = 'SELECT v, w FROM pairs WHERE "Or,der" IN (1, 2, 3, 4, 9) ORDER BY "Or,der"';
    for (const node of ['n1', 'n2']) {
      assert.deepEqual(await rows(node, sql), [
        ['two', 'w'],
        ['two', 'w'],
        ['v', 'w'],
        ['two', 'w'],
        ['v', 'two'],
      ]);
    }
  });

  it('leaves rows that have moved on, unless an action allows it', async () => {
    await mesh.query('n1', "INSERT INTO written SELECT i, 'x' FROM generate_series(1, 6) i");
    await mesh.waitForReplication();
    await on('n2', "UPDATE written SET v = 'y' WHERE id <= 4");
    const file = await harness.diff('public', 'written');
    await on('n2', "UPDATE written SET v = 'newer' WHERE id IN (1, 2)");
    const plan = planOf(
      'written',
      `
default_action: { type: keep_n1 }
rules:
  - { name: anyway, pk_in: [{ equals: [2] }], action: { type: keep_n1, allow_stale_repairs: true } }
`,
    );
    const table = { schema: 'public', name: 'written' };
    const { nodes } = await harness.repair(file, table, { repairPlan: plan, nodes: ['n1', 'n2'] });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 3, skipped: 1 });
    assert.deepEqual(await rows('n2', 'SELECT v FROM written WHERE id <= 2 ORDER BY id'), [
      ['newer'],
      ['x'],
    ]);
  });

  it('is checked whole before anything is written', async () => {
    await fresh();
    await on('n2', "UPDATE accounts SET status = 'two' WHERE id = 1");
    const rule = (text: string): string => planOf('accounts', `rules:\n  - { name: r, ${text} }`);
    const wrong: readonly [plan: string, message: RegExp][] = [
      ['version: 2\ntables: {}', /version must be 1/],
      [
        'version: 1\ntables: { public.other: {} }',
        /nothing of public\.accounts, only of public\.other/,
      ],
      ['version: [', /cannot be read/],
      [rule('action: { type: keep_n1 }'), /needs one of pk_in, diff_type/],
      [rule('when: "n1.statu = \'x\'", action: { type: skip }'), /no compared column "statu"/],
      [rule('diff_typ: [row_mismatch], action: { type: skip }'), /"diff_typ" is not known/],
      [rule('diff_type: [mismatch], action: { type: skip }'), /none of row_mismatch/],
      [
        rule('diff_type: [missing_on_n1], action: { type: keep_n1 }'),
        /no row to copy where missing_on_n1/,
      ],
      [
        rule('diff_type: [row_mismatch], action: { type: apply_from, from: n1, mode: insert }'),
        /insert is for missing rows/,
      ],
      [
        rule('columns_changed: [status], action: { type: keep_n9 }'),
        /"n9" is not a node of the cluster/,
      ],
      [rule('columns_changed: [status], action: { type: custom }'), /needs custom_row or helpers/],
      [
        rule('columns_changed: [status], action: { type: custom, custom_row: { id: 5 } }'),
        /of the key/,
      ],
      [
        rule('columns_changed: [status], action: { type: custom, custom_row: { nope: 5 } }'),
        /no compared column "nope"/,
      ],
      [
        rule('columns_changed: [status], action: { type: skip, from: n1 }'),
        /from does not go with skip/,
      ],
      [
        rule('pk_in: [{ equals: [[1, 2]] }], action: { type: skip }'),
        /a key has 1 values, here are 2/,
      ],
      [
        planOf('accounts', 'row_overrides: [{ pk: { no: 1 }, action: { type: skip } }]'),
        /exactly id/,
      ],
    ];
    for (const [plan, message] of wrong) {
      await assert.rejects(repair('accounts', plan), { code: 'BAD_USAGE', message });
    }
    const good = planOf('accounts', 'default_action: { type: keep_n1 }');
    await assert.rejects(
      repair('accounts', good, { planHash: 'ab' }),
      /SHA-256 is [0-9a-f]{64}, not ab/,
    );
    await assert.rejects(
      repair('accounts', good, { insertOnly: true }),
      /--repair-plan and --insert-only/,
    );
    assert.deepEqual(await rows('n2', 'SELECT status FROM accounts WHERE id = 1'), [['two']]);
    const planHash = createHash('sha256').update(good).digest('hex');
    const { nodes } = await repair('accounts', good, { planHash });
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 1 });
  });

  it('fails rows whose values a column does not take, and writes the others', async () => {
    await fresh();
    await on('n2', "UPDATE accounts SET status = 'two' WHERE id <= 3");
    const plan = planOf(
      'accounts',
      `
default_action: { type: custom, custom_row: { status: fine } }
row_overrides:
  - { name: bad, pk: { id: 2 }, action: { type: custom, custom_row: { amount: lots } } }
`,
    );
    const { nodes, warnings } = await repair('accounts', plan);
    assert.deepEqual(nodes['n2'], { ...NOTHING, upserted: 2, failed: 1 });
    assert.deepEqual(nodes['n1'], { ...NOTHING, upserted: 2, failed: 1 });
    assert.match(
      warnings.join(),
      /On n2 1 row could not be written: the columns do not take the values/,
    );
  });
});
