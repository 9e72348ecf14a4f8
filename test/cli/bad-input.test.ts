import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import type { NodeConfig } from '../../src/config/config.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { startProgram, type Ended } from './program.js';

const TABLES = `
  CREATE TABLE customers (id int PRIMARY KEY, name text);
  CREATE TABLE keyless (id int);
  CREATE TABLE wide (id int PRIMARY KEY, note text);
  INSERT INTO customers VALUES (1, 'one');
  CREATE ROLE reader LOGIN; GRANT CREATE ON DATABASE app TO reader;
  CREATE ROLE scram LOGIN PASSWORD 'right'`;
/** More than the state takes, and less than the report of `wide`. */
const MAX_FILE_KIB = 512;

/** One line of what acectl says, and the line with the remedy. */
interface Refusal {
  readonly error: RegExp;
  readonly hint: RegExp;
}

describe('bad input ends with a message, a remedy and exit code 2, and leaves nothing behind', () => {
  let root: string;
  let work: string;
  let n1: TestServer;
  let n2: TestServer;
  let unfit: TestServer;
  let n3: TestServer;

  before(async () => {
    root = await mkdtemp(join(tmpdir(), 'aced-bad-input-'));
    [n1, n2, n3, unfit] = await Promise.all([
      startServer(),
      startServer(),
      startServer({ settings: { max_replication_slots: '1' } }),
      startServer({ settings: { wal_level: 'replica' } }),
    ]);
    for (const server of [n1, n2, n3, unfit]) {
      await server.createDatabase('app');
      await server.query('app', TABLES);
    }
    await n2.query(
      'app',
      'ALTER TABLE customers ADD COLUMN extra int; CREATE TABLE mixed (id int PRIMARY KEY, v int); CREATE TABLE only_n2 (id int PRIMARY KEY)',
    );
    await n1.query(
      'app',
      'CREATE TABLE mixed (id int PRIMARY KEY, v text); CREATE TABLE only_n1 (id int PRIMARY KEY)',
    );
    await n1.query(
      'app',
      "INSERT INTO wide SELECT i, repeat('x', 400) FROM generate_series(1, 2000) i",
    );
    await n3.query('app', "SELECT pg_create_logical_replication_slot('taken', 'pgoutput')");
    const hba = join(n2.dataDir, 'pg_hba.conf');
    await writeFile(hba, `host all scram all scram-sha-256\n${await readFile(hba, 'utf8')}`);
    await n2.query('app', 'SELECT pg_reload_conf()');
    const [one, two] = [node(n1, 'n1'), node(n2, 'n2')];
    await writeFile(
      join(root, 'pg_service.conf'),
      [
        ...section('good', [one, two]),
        ...section('down', [one, { ...two, port: 1 }]),
        ...section('locked', [one, { ...two, user: 'scram', password: 'hunter2' }]),
        ...section('poor', [one, { ...two, user: 'reader' }]),
        ...section('replica', [one, node(unfit, 'n2')]),
        ...section('full', [one, node(n3, 'n2')]),
      ].join('\n'),
    );
  });

  after(async () => {
    await Promise.all([n1, n2, n3, unfit].map((server) => server.stop('immediate')));
    await rm(root, { recursive: true });
  });

  beforeEach(async () => {
    work = await mkdtemp(join(root, 'work-'));
  });

  const node = (server: TestServer, name: string): NodeConfig => server.nodeConfig('app', name);

  function section(cluster: string, nodes: readonly NodeConfig[]): string[] {
    return nodes.flatMap(({ name, host, port, database, user, password }) => [
      `[${cluster}.${name}]`,
      `host=${host}`,
      `port=${port}`,
      `dbname=${database}`,
      `user=${user}`,
      'sslmode=disable',
      ...(password === undefined ? [] : [`password=${password}`]),
    ]);
  }

  function environment(): NodeJS.ProcessEnv {
    return {
      HOME: root,
      PGSERVICEFILE: join(root, 'pg_service.conf'),
      ACED_STATE_DIR: join(work, '.state'),
      ACED_SOCKET: join(work, '.aced.sock'),
    };
  }

  async function acectl(line: string, maxFileKib?: number): Promise<Ended> {
    const limit = maxFileKib === undefined ? {} : { maxFileKib };
    const words = line.split(' ');
    return startProgram('acectl', words, { cwd: work, env: environment(), ...limit }).ended;
  }

  /** Files beside the state directory and the socket. */
  async function files(): Promise<string[]> {
    return (await readdir(work, { recursive: true })).filter(
      (name) => !/^\.(state|aced)/.test(name),
    );
  }

  function assertRefused(ended: Ended, { error, hint }: Refusal): void {
    // The servers' superuser is the role here, which mtree init warns of.
    const told = ended.stdout.replace(/^WARN .* is a superuser there: .*\n/gm, '');
    assert.deepEqual([ended.exitCode, told], [2, ''], ended.stderr);
    const [first = '', second = '', ...more] = ended.stderr.trimEnd().split('\n');
    assert.match(first, error);
    assert.match(second, hint);
    assert.deepEqual(more, []);
    assert.doesNotMatch(ended.stderr, /hunter2/);
  }

  async function refused(line: string, expected: Refusal): Promise<void> {
    const given = await files();
    assertRefused(await acectl(line), expected);
    assert.deepEqual(await files(), given);
  }

  /** Neither publication nor slot nor schema of ours is on a node. */
  async function assertUntouched(...servers: readonly TestServer[]): Promise<void> {
    for (const server of servers) {
      const rows = await server.query(
        'app',
        `SELECT pubname::text FROM pg_publication
          UNION ALL SELECT slot_name::text FROM pg_replication_slots WHERE slot_name <> 'taken'
          UNION ALL SELECT nspname::text FROM pg_namespace WHERE nspname = 'aced'`,
      );
      assert.deepEqual(rows, []);
    }
  }

  it('unknown cluster', async () => {
    await refused('mtree init nope', {
      error: /^ERROR no cluster "nope" in .*pg_service\.conf/,
      hint: /^HINT Defined there: good, down/,
    });
  });

  it('node down', async () => {
    for (const line of ['mtree init down', 'table-diff down customers']) {
      await refused(line, {
        error: /^ERROR node n2 \(127\.0\.0\.1:1\/app\), connecting: .*ECONNREFUSED/,
        hint: /^HINT Check host, port and firewall/,
      });
    }
    await assertUntouched(n1);
  });

  it('wrong password', async () => {
    for (const line of ['mtree init locked', 'table-diff -v locked customers']) {
      const ended = await acectl(line);
      assert.equal(ended.exitCode, 2);
      assert.match(
        ended.stderr,
        /^ERROR node n2 .*password authentication failed for user "scram"/m,
      );
      assert.match(ended.stderr, /^HINT Check user and password/m);
      assert.doesNotMatch(ended.stderr + ended.stdout, /hunter2/);
    }
    await assertUntouched(n1, n2);
  });

  it('no such table', async () => {
    await refused('table-diff good nosuch', {
      error: /^ERROR no table "nosuch" in schema "public" on node n1/,
      hint: /^HINT Check the schema and the spelling/,
    });
  });

  it('a table that one node only lacks, whichever node that is', async () => {
    for (const [table, without] of [
      ['only_n1', 'n2'],
      ['only_n2', 'n1'],
    ]) {
      await refused(`table-diff good ${table}`, {
        error: new RegExp(`^ERROR no table "${table}" in schema "public" on node ${without}`),
        hint: /^HINT If other nodes have it: create it on this one, or leave this node out/,
      });
    }
  });

  it('no primary key', async () => {
    await refused('table-diff good keyless --key id', {
      error: /^ERROR --key id: no key of public\.keyless on n1: /,
      hint: /^HINT Name columns that are unique and NOT NULL on every node/,
    });
  });

  it('columns of different types', async () => {
    await refused('table-diff good mixed', {
      error: /^ERROR column v of public\.mixed is text on n1 but integer on n2/,
      hint: /^HINT /,
    });
  });

  it('a column that only one node has is not proved equal, unless it is left out', async () => {
    const ended = await acectl('table-diff good customers');
    assert.equal(ended.exitCode, 2, ended.stderr);
    assert.match(ended.stdout, /^WARN Column extra was not compared: missing on n\d$/m);
    assert.match(ended.stdout, /^WARN NOT COMPARABLE/m);
    const named = await acectl('table-diff good customers --exclude-columns extra');
    assert.equal(named.exitCode, 0, named.stderr);
    await refused('table-diff good customers --exclude-columns extra,Extra', {
      error: /^ERROR --exclude-columns: public\.customers has no column "Extra"/,
      hint: /^HINT Write names as the catalog has them/,
    });
    await refused('table-diff good customers --exclude-columns id', {
      error: /^ERROR the primary key of public\.customers contains id/,
      hint: /it is always compared/,
    });
  });

  it('missing privileges', async () => {
    await refused('table-diff poor customers', {
      error: /^ERROR node n2 .*permission denied for table customers/,
      hint: /^HINT Grant the role what the message names/,
    });
    await refused('mtree init poor', {
      error: /^ERROR role reader may not use replication slots on node n2/,
      hint: /^HINT ALTER ROLE "?reader"? REPLICATION/,
    });
    await assertUntouched(n1, n2);
  });

  it('wal_level is not logical', async () => {
    await refused('mtree init replica', {
      error: /^ERROR wal_level is replica on node n2/,
      hint: /^HINT Set wal_level = logical in postgresql\.conf and restart/,
    });
    await assertUntouched(n1, unfit);
  });

  it('no free slot', async () => {
    await refused('mtree init full', {
      error: /^ERROR all replication slots are in use on node n2/,
      hint: /^HINT Raise max_replication_slots, or drop a slot/,
    });
    await assertUntouched(n1, n3);
  });

  it('a table without a tree, and a cluster that was not initialised', async () => {
    await refused('mtree build good customers', {
      error: /^ERROR cluster good is not initialised/,
      hint: /^HINT Run: acectl mtree init good/,
    });
  });

  it('malformed diff file', async () => {
    const half = '{"diffs": {"n1/n2": {"rows": {"n1": [{"id": 1';
    for (const [name, content] of [
      ['empty.json', ''],
      ['text.json', 'no JSON at all'],
      ['cut.json', half],
      ['other.json', '{"diffs": {}}'],
      ['list.json', '[]'],
    ] as const) {
      await writeFile(join(work, name), content);
      await refused(`table-repair good customers -r n1 -f ${name}`, {
        error: new RegExp(`^ERROR .*${name.replace('.', '\\.')}`),
        hint: /^HINT /,
      });
    }
    await refused('table-repair good customers -r n1 -f none.json', {
      error: /^ERROR .*none\.json/,
      hint: /^HINT /,
    });
  });

  it('foreign diff file', async () => {
    const file = (table: string, pair: string): string =>
      JSON.stringify({
        diffs: { [pair]: { rows: { n1: [{ id: 1, name: 'one' }], [pair.slice(3)]: [] } } },
        summary: { schema: 'public', table, nodes: pair.split('/'), primary_key: ['id'] },
      });
    await writeFile(join(work, 'table.json'), file('wide', 'n1/n2'));
    await writeFile(join(work, 'node.json'), file('customers', 'n1/n7'));
    await refused('table-repair good customers -r n1 -f table.json', {
      error: /^ERROR .*table\.json is about table public\.wide, not public\.customers/,
      hint: /^HINT Give the diff file of this table/,
    });
    await refused('table-repair good customers -r n1 -f node.json', {
      error: /^ERROR .* names n7, which is not a node of the cluster/,
      hint: /^HINT The cluster's nodes are n1, n2/,
    });
    const rows = await n2.query('app', 'SELECT count(*) FROM customers');
    assert.equal(rows[0]?.[0], '1');
  });

  it('full disk for the report', async () => {
    const expected = { error: /^ERROR cannot write .*: EFBIG/, hint: /^HINT / };
    for (const format of ['json', 'html']) {
      assertRefused(await acectl(`table-diff -q good wide -o ${format}`, MAX_FILE_KIB), expected);
      assert.deepEqual(await files(), []);
    }
  });

  it('full disk for the report that a daemon has made', async () => {
    const { child, ended } = startProgram('aced', ['--cluster', 'good'], {
      cwd: root,
      env: environment(),
    });
    await once(child.stdout ?? child, 'data');
    const reports = join(work, 'reports');
    await mkdir(reports);
    const client = startProgram('acectl', ['table-diff', '-q', 'good', 'wide'], {
      cwd: reports,
      env: environment(),
      maxFileKib: MAX_FILE_KIB,
    });
    assertRefused(await client.ended, {
      error: /^ERROR cannot write .*public_wide_diffs-\d+/,
      hint: /^HINT Make room/,
    });
    assert.deepEqual(await readdir(reports), []);
    child.kill('SIGTERM');
    assert.equal((await ended).exitCode, 0);
  });
});
