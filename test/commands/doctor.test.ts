import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { describeDoctor } from '../../src/cli/doctor-outcome.js';
import { silentLogger } from '../../src/base/log.js';
import { Engine } from '../../src/commands/engine.js';
import type { Config } from '../../src/config/config.js';
import type { DoctorParams } from '../../src/protocol/commands.js';
import type { DoctorResult, Finding } from '../../src/protocol/doctor.js';
import { removeDirectory, scratchDirectory, testContext } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';

const TABLES = `
  CREATE TABLE good (id int PRIMARY KEY, v text);
  CREATE TABLE parts (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
  CREATE TABLE part PARTITION OF parts FOR VALUES FROM (0) TO (100);`;

/** What is wrong with tables and roles, in an order in which all can be made. */
const BROKEN = `
  CREATE TABLE keyless (id int);
  CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, v int);
  CREATE TABLE quiet (id int PRIMARY KEY, v int);
  ALTER TABLE quiet REPLICA IDENTITY NOTHING;
  CREATE TABLE hidden (id int PRIMARY KEY, v int);
  ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
  CREATE TABLE secret (id int PRIMARY KEY, v int);
  CREATE TABLE names (id int PRIMARY KEY, r regclass);
  CREATE ROLE weak LOGIN;
  GRANT USAGE ON SCHEMA public TO weak;
  GRANT SELECT ON good, parts, keyless, late, quiet, hidden, names TO weak;`;

describe('doctor', () => {
  let mesh: Mesh;
  let stateDir: string;

  before(async () => {
    mesh = await startMesh({
      nodes: 2,
      tables: TABLES,
      settings: { max_slot_wal_keep_size: '1GB', track_commit_timestamp: 'on' },
    });
    stateDir = await scratchDirectory();
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(stateDir);
  });

  async function examine(
    user: string,
    params: DoctorParams = {},
    change: (config: Config) => Config = (config) => config,
  ): Promise<DoctorResult> {
    const config = mesh.config(stateDir);
    const nodes = config.nodes.map((node) => ({ ...node, user }));
    const engine = await Engine.open(change({ ...config, nodes }), {
      log: silentLogger(),
      mode: 'command',
    });
    try {
      return await engine.run('doctor', params, testContext(stateDir));
    } finally {
      await engine.close();
    }
  }

  const notWell = ({ findings }: DoctorResult): Finding[] =>
    findings.filter(({ level }) => level !== 'ok');

  const has = (
    result: DoctorResult,
    level: Finding['level'],
    check: string,
    subject: RegExp,
    evidence: RegExp,
  ): void => {
    const found = result.findings.some(
      (one) =>
        one.level === level &&
        one.check === check &&
        subject.test(one.subject) &&
        evidence.test(one.evidence),
    );
    assert.ok(
      found,
      `${level} ${check} of ${subject}\n${JSON.stringify(notWell(result), null, 1)}`,
    );
  };

  /** All that a session of ours could leave behind. */
  const traces = (): Promise<(string | null)[][]> =>
    mesh.query(
      'n1',
      `SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_replication_slots),
              (SELECT count(*) FROM pg_namespace), (SELECT count(*) FROM pg_class)`,
    );

  it('before mtree init, on nodes that are well: the superuser is all there is to say', async () => {
    const before = await traces();
    const result = await examine('postgres');
    assert.deepEqual(
      notWell(result).map(({ level, check, subject }) => `${level} ${check} ${subject}`),
      ['warning role n1', 'warning role n2'],
    );
    assert.equal(result.tables, 2, 'a partition is looked at with its table');
    assert.equal(describeDoctor(result).exitCode, 1);
    assert.deepEqual(await traces(), before);
  });

  it('--decode on nodes that replicate says what it wrote; nothing is left, and they go on', async () => {
    await mesh.query('n1', "INSERT INTO good VALUES (1, 'v')");
    await mesh.waitForReplication();
    const before = await traces();
    const result = await examine('postgres', { decode: true });
    for (const node of ['n1', 'n2']) {
      has(
        result,
        'ok',
        'decoding',
        new RegExp(`^${node}$`),
        /^2 types are read alike .* removed again/,
      );
    }
    assert.deepEqual(await traces(), before);
    await mesh.query('n1', "INSERT INTO good VALUES (2, 'v')");
    await mesh.waitForReplication();
  });

  it('a node that is down is a problem, and the others are looked at', async () => {
    const result = await examine('postgres', {}, (config) => ({
      ...config,
      nodes: config.nodes.map((node) => (node.name === 'n2' ? { ...node, port: 1 } : node)),
    }));
    has(result, 'problem', 'connection', /^n2$/, /n2/);
    has(result, 'ok', 'wal_level', /^n1$/, /logical/);
    assert.equal(describeDoctor(result).exitCode, 2);
  });

  it('many things that are not well at once, each with evidence and remedy', async () => {
    await mesh.queryAll(BROKEN);
    await mesh.query('n1', 'CREATE TABLE alone (id int PRIMARY KEY)');
    await mesh.query('n2', 'ALTER TABLE good ADD COLUMN more int');
    await mesh.query('n1', "ALTER SYSTEM SET synchronous_standby_names = '*'");
    await mesh.query('n1', "ALTER SYSTEM SET synchronous_commit = 'local'");
    await mesh.query('n1', 'SELECT pg_reload_conf()');
    const [subscription] = await mesh.query('n2', 'SELECT subname FROM pg_subscription');
    await mesh.query('n2', `ALTER SUBSCRIPTION ${subscription?.[0] ?? ''} DISABLE`);
    const result = await examine('weak');
    has(result, 'problem', 'replication', /^n1$/, /may not stream/);
    has(result, 'problem', 'schema', /^n2$/, /may not create/);
    has(result, 'problem', 'publication', /^n2$/, /may not create/);
    has(result, 'warning', 'synchronous_standby_names', /^n1$/, /\*/);
    has(result, 'warning', 'replication', /subscription/, /disabled/);
    has(result, 'warning', 'table', /^public\.alone$/, /missing on n2/);
    has(result, 'problem', 'comparable', /^public\.keyless$/, /primary key/);
    has(result, 'problem', 'can be followed', /^public\.late$/, /updates and deletes would fail/);
    has(result, 'problem', 'can be followed', /^public\.quiet$/, /nothing/);
    has(result, 'problem', 'row security', /^public\.hidden$/, /policies/);
    has(result, 'problem', 'SELECT', /^public\.secret$/, /may not read/);
    has(result, 'warning', 'columns', /^public\.names$/, /\br\b is not compared/);
    has(result, 'warning', 'columns', /^public\.good$/, /more is not compared/);
    has(result, 'ok', 'table', /^public\.parts$/, /can be read/);
    assert.equal(describeDoctor(result).exitCode, 2);
    const silent = notWell(result).filter(
      ({ remedy, evidence }) => remedy === '' || evidence === '',
    );
    assert.deepEqual(silent, []);
  });

  it('one table alone', async () => {
    const result = await examine('postgres', { table: 'quiet' });
    assert.equal(result.tables, 1);
    has(result, 'problem', 'can be followed', /^public\.quiet$/, /nothing/);
    assert.ok(!result.findings.some(({ subject }) => subject === 'public.late'));
  });

  it('a table that is nowhere is a problem, not an empty list', async () => {
    const result = await examine('postgres', { table: 'nowhere' });
    has(result, 'problem', 'tables', /all nodes/, /nowhere/);
  });
});
