import assert from 'node:assert/strict';
import { chmod, copyFile, mkdir, mkdtemp, readFile, writeFile } from 'node:fs/promises';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createServer } from 'node:net';
import { join } from 'node:path';
import type { SecureVersion } from 'node:tls';
import { after, before, describe, it } from 'node:test';
import type { TasksResult } from '../../src/protocol/tasks.js';
import type { TaskStatus } from '../../src/server/api-tasks.js';
import { startProgram } from '../cli/program.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';
import { Authority } from './certificates.js';

interface Answer {
  readonly status: number;
  readonly body: Readonly<Record<string, unknown>>;
  readonly allow: string | undefined;
}

interface Ask {
  readonly method?: string;
  /** Sent as it stands. */
  readonly text?: string;
  readonly contentType?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Files of the client's certificate; null: none. Absent: over the socket. */
  readonly as?: string | null;
  readonly maxVersion?: SecureVersion;
}

/** A port that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** A daemon as a process of its own, on real nodes, asked with real certificates. */
describe("ACE's HTTP routes", () => {
  let mesh: Mesh;
  let root: string;
  let port: number;
  let env: NodeJS.ProcessEnv;
  let authority: Authority;

  const at = (...path: string[]): string => join(root, ...path);

  before(async () => {
    mesh = await startMesh({
      nodes: 2,
      tables: `CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, n FROM generate_series(1, 20) n;
        CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY); CREATE TABLE s.b (id int PRIMARY KEY);
        CREATE TABLE "unequal T" (id int PRIMARY KEY, v int)`,
    });
    root = await scratchDirectory();
    authority = new Authority(root);
    authority.sign('server', 'localhost');
    authority.sign('ci', 'ci');
    authority.sign('stranger', 'stranger');
    authority.sign('gone', 'gone');
    authority.list();
    await mkdir(at('other'));
    new Authority(at('other')).sign('ci', 'ci');
    port = await freePort();
    env = {
      HOME: root,
      PGSERVICEFILE: await mesh.writeServiceFile(root),
      ACED_CLUSTER: mesh.cluster,
      ACED_STATE_DIR: at('state'),
      ACED_SOCKET: at('aced.sock'),
      ACED_API_PORT: String(port),
      ACED_API_TLS_CERT_FILE: at('server.crt'),
      ACED_API_TLS_KEY_FILE: at('server.key'),
      ACED_API_CLIENT_CA_FILE: at('ca.crt'),
      ACED_API_CLIENT_CRL_FILE: at('crl.pem'),
      ACED_API_ALLOWED_NAMES: 'ci,gone',
    };
  });

  after(async () => {
    await mesh.stop();
    await removeDirectory(root);
  });

  async function startDaemon() {
    const { child, ended } = startProgram('aced', [], { cwd: root, env });
    let log = '';
    child.stdout?.on('data', (text: string) => (log += text));
    const logged = (event: string): Promise<void> =>
      waitFor(() => log.includes(`"event":"${event}"`), { what: event, timeoutMs: 60_000 });
    await logged('ready');
    const stop = async (): Promise<void> => {
      child.kill('SIGTERM');
      assert.equal((await ended).exitCode, 0);
    };
    return { child, logged, stop, log: () => log };
  }

  async function ask(path: string, body: unknown, more: Ask = {}): Promise<Answer> {
    const { method = body === undefined ? 'GET' : 'POST', as, maxVersion } = more;
    const text = more.text ?? (body === undefined ? '' : JSON.stringify(body));
    const headers = { 'content-type': more.contentType ?? 'application/json', ...more.headers };
    const common = { method, path: `/api/v1/${path}`, headers, agent: false as const };
    const client = as === null || as === undefined ? {} : keyPair(as);
    return new Promise((resolve, reject) => {
      const outgoing =
        as === undefined
          ? httpRequest({ ...common, socketPath: at('aced.sock') })
          : httpsRequest({
              ...{ ...common, ...client, port, host: '127.0.0.1', servername: 'localhost' },
              ca: readFileSync(at('ca.crt')),
              ...(maxVersion === undefined
                ? {}
                : { minVersion: 'TLSv1', maxVersion, ciphers: 'DEFAULT@SECLEVEL=0' }),
            });
      outgoing.on('error', reject);
      outgoing.on('response', (response) => {
        let answer = '';
        response.setEncoding('utf8');
        response.on('error', reject);
        response.on('data', (part: string) => (answer += part));
        response.on('end', () => {
          const { statusCode = 0, headers: said } = response;
          const parsed = answer.startsWith('{') ? (JSON.parse(answer) as Answer['body']) : {};
          resolve({ status: statusCode, body: parsed, allow: said.allow });
        });
      });
      outgoing.end(text);
    });
  }

  function keyPair(file: string) {
    return { cert: readFileSync(at(`${file}.crt`)), key: readFileSync(at(`${file}.key`)) };
  }

  async function submit(path: string, body: object, more: Ask = {}): Promise<string> {
    const { status, body: answer } = await ask(path, body, more);
    assert.deepEqual([status, answer['status']], [202, 'QUEUED'], JSON.stringify(answer));
    assert.match(String(answer['task_id']), /^[0-9a-f-]{36}$/);
    return String(answer['task_id']);
  }

  /** The task's answer once it has ended. */
  async function ended(path: string, body: object, more: Ask = {}): Promise<TaskStatus> {
    const id = await submit(path, body, more);
    let task: TaskStatus | null = null;
    await waitFor(
      async () => {
        const { status, body: answer } = await ask(`tasks/${id}`, undefined, more);
        assert.equal(status, 200, JSON.stringify(answer));
        task = answer as unknown as TaskStatus;
        return task.status === 'COMPLETED' || task.status === 'FAILED';
      },
      { what: `the end of ${path}`, timeoutMs: 60_000 },
    );
    assert.ok(task);
    return task;
  }

  async function completed(path: string, body: object, more: Ask = {}): Promise<TaskStatus> {
    const task = await ended(path, body, more);
    assert.equal(task.status, 'COMPLETED', JSON.stringify(task));
    return task;
  }

  describe('over TLS', () => {
    let daemon: Awaited<ReturnType<typeof startDaemon>>;
    before(async () => {
      daemon = await startDaemon();
    });
    after(async () => {
      await daemon.stop();
    });

    it('answers nobody without a certificate of its authority, or with a name that is not allowed', async () => {
      await assert.rejects(ask('tasks/x', undefined, { as: null }));
      await assert.rejects(ask('tasks/x', undefined, { as: 'other/ci' }));
      await assert.rejects(ask('tasks/x', undefined, { as: 'ci', maxVersion: 'TLSv1.1' }));
      const refused = await ask('table-diff', { table: 't' }, { as: 'stranger' });
      assert.equal(refused.status, 401);
      assert.equal(typeof refused.body['error'], 'string');
      const allowed = await ask('tasks/x', undefined, { as: 'ci', maxVersion: 'TLSv1.2' });
      assert.equal(allowed.status, 404);
    });

    it('diffs, diffs again, repairs, and remembers whose certificate asked for it', async () => {
      const as = { as: 'ci' };
      const same = await completed('table-diff', { cluster: mesh.cluster, table: 'public.t' }, as);
      assert.deepEqual(
        [same.task_type, same.cluster, same.schema, same.table, same.repset],
        ['TABLE_DIFF', mesh.cluster, 'public', 't', ''],
      );
      assert.equal(same.task_context?.['outcome'], 'match');
      assert.ok((same.time_taken ?? -1) >= 0 && same.finished_at !== undefined);

      await mesh.driftSql('n2', 'UPDATE t SET v = 0 WHERE id <= 3');
      const body = {
        table: 't',
        nodes: ['n1', 'n2'],
        block_size: 1000,
        max_diff_rows: 0,
        quiet: true,
      };
      const drift = await completed('table-diff', body, as);
      const { diff_summary: summary, files } = drift.task_context ?? {};
      assert.deepEqual(summary, {
        nodes: ['n1', 'n2'],
        diff_rows_count: { 'n1/n2': 3 },
        diff_row_limit_reached: false,
      });
      const [file] = files as string[];
      assert.ok(file?.startsWith(at('state/reports/public_t_diffs-')), file);

      const rerun = await completed('table-rerun', { diff_file: file }, as);
      assert.equal(rerun.task_context?.['outcome'], 'drift');
      const repair = {
        table: 'public.t',
        diff_file: file,
        source_of_truth: 'n1',
        generate_report: true,
      };
      const dry = await completed('table-repair', { ...repair, dry_run: true }, as);
      assert.equal(dry.task_type, 'TABLE_REPAIR');
      const done = await completed('table-repair', repair, as);
      assert.match(String((done.task_context?.['files'] as string[])[0]), /repair_report_/);
      await mesh.waitForReplication();
      const again = await completed('table-diff', { table: 't' }, as);
      assert.equal(again.task_context?.['outcome'], 'match');

      const shown = startProgram('acectl', ['tasks', '--json'], { cwd: root, env });
      const { tasks } = JSON.parse((await shown.ended).stdout) as TasksResult;
      const repaired = tasks.find(({ repair: audit }) => audit !== null && audit.nodes !== null);
      assert.deepEqual(
        [repaired?.repair?.uid, repaired?.repair?.certificate, repaired?.repair?.file],
        [null, 'ci', file],
      );
      const text = startProgram('acectl', ['tasks'], { cwd: root, env });
      assert.match((await text.ended).stdout, /by certificate ci, from/);
      assert.match(daemon.log(), /"event":"repair_recorded"[^\n]*"certificate":"ci"/);
    });

    it('refuses what is too large, and answers in the form of an error of ACE', async () => {
      const as = { as: 'ci' };
      const long = await ask('table-diff', { table: 'x'.repeat(300_000) }, as);
      assert.deepEqual([long.status, long.body['error']], [400, 'the request is too large']);
      const header = await ask(
        'table-diff',
        { table: 't' },
        { ...as, headers: { x: 'x'.repeat(20_000) } },
      );
      assert.equal(header.status, 431);
    });

    it('takes over the list of revoked certificates on SIGHUP', async () => {
      assert.equal((await ask('tasks/x', undefined, { as: 'gone' })).status, 404);
      authority.revoke('gone');
      authority.list();
      daemon.child.kill('SIGHUP');
      await daemon.logged('api_files_read');
      await assert.rejects(ask('tasks/x', undefined, { as: 'gone' }));
      assert.equal((await ask('tasks/x', undefined, { as: 'ci' })).status, 404);
      // What is not well changes nothing.
      await copyFile(at('server.crt'), at('kept.crt'));
      await writeFile(at('server.crt'), 'nonsense');
      daemon.child.kill('SIGHUP');
      await daemon.logged('api_files_refused');
      await copyFile(at('kept.crt'), at('server.crt'));
      assert.equal((await ask('tasks/x', undefined, { as: 'ci' })).status, 404);
    });
  });

  it('over the socket: all the others, refusals, and tasks of an aced that has ended', async () => {
    const first = await startDaemon();
    let asked: string;
    try {
      for (const [path, type] of [
        ['init', 'MTREE_INIT'],
        ['build', 'MTREE_BUILD'],
        ['update', 'MTREE_UPDATE'],
        ['diff', 'MTREE_DIFF'],
        ['teardown-table', 'MTREE_TEARDOWN_TABLE'],
        ['teardown', 'MTREE_TEARDOWN'],
      ] as const) {
        const body =
          path === 'init' || path === 'teardown' ? { nodes: 'all' } : { table: 'public.t' };
        const task = await completed(`mtree/${path}`, body);
        assert.equal(task.task_type, type);
      }
      await writeFile(at('state/reports/skipped'), '# not these\ns.b\n');
      await mesh.driftSql('n1', 'INSERT INTO s.a VALUES (7); INSERT INTO s.b VALUES (7)');
      const schema = await completed('schema-diff', { schema: 's', skip_file: 'skipped' });
      assert.deepEqual([schema.schema, schema.task_context?.['outcome']], ['s', 'different']);
      const { counts } = schema.task_context?.['result'] as { counts: Record<string, number> };
      assert.deepEqual([counts['different'], counts['skipped']], [1, 1]);
      const ddl = { schema: 's', ddl_only: true, block_size: 5 };
      assert.equal((await completed('schema-diff', ddl)).task_context?.['outcome'], 'equal');
      assert.equal((await completed('spock-diff', { output: 'json' })).task_type, 'SPOCK_DIFF');
      const repset = await ended('repset-diff', { repset: 'default' });
      assert.deepEqual([repset.status, repset.repset], ['FAILED', 'default']);
      assert.match(String(repset.task_context?.['error']), /default/);

      // Neither equal nor different is not what a script may take for an end that is well.
      await mesh.query('n2', 'ALTER TABLE "unequal T" DROP COLUMN v');
      const unequal = await ended('table-diff', { table: 'public."unequal T"' });
      assert.deepEqual([unequal.status, unequal.table], ['FAILED', 'unequal T']);
      const missing = await ended('table-diff', { table: 'nosuch' });
      assert.equal(missing.status, 'FAILED');
      assert.match(String(missing.task_context?.['error']), /no table "nosuch"/);
      const part = await ended('mtree/init', { nodes: ['n1'] });
      assert.equal(part.status, 'FAILED', 'what is refused at the beginning has ended too');

      const outside = await mkdtemp(at('outside-'));
      await writeFile(join(outside, 'd.json'), '{}');
      for (const [path, body, error, more] of [
        ['table-diff', { table: 't', tabel: 1 }, /no field "tabel"/],
        ['table-diff', {}, /needs table/],
        ['table-diff', { table: 't', block_size: 'many' }, /block_size is not acceptable/],
        ['table-diff', { table: 't', cluster: 'elsewhere' }, /serves cluster demo/],
        ['table-diff', { table: 't', dbname: 'elsewhere' }, /serves database app/],
        ['table-diff', [], /must be a JSON object/],
        ['table-diff', {}, /not valid JSON/, { text: '{' }],
        ['table-diff', { table: 't' }, /content-type/, { contentType: 'text/plain' }],
        ['spock-diff', { output: 'html' }, /json alone/],
        ['mtree/build', { table: 't', write_ranges: true }, /write_ranges is not supported/],
        ['table-rerun', { diff_file: join(outside, 'd.json') }, /no file .* below/],
        ['table-rerun', { diff_file: '../../aced.sock' }, /no file .* below/],
        ['table-rerun', { diff_file: '.' }, /no file .* below/],
      ] as const) {
        const answer = await ask(path, body, more ?? {});
        assert.equal(answer.status, 400, JSON.stringify([path, body, answer.body]));
        assert.match(String(answer.body['error']), error);
      }
      const method = await ask('table-diff', undefined);
      assert.deepEqual([method.status, method.allow], [405, 'POST']);
      assert.equal((await ask('tasks/x', {})).status, 405);
      for (const path of ['tasks/x', 'nosuch', 'table-diff/x']) {
        assert.equal((await ask(path, undefined)).status, 404, path);
      }
      asked = await submit('table-diff', { table: 't' });
    } finally {
      await first.stop();
    }
    const second = await startDaemon();
    try {
      const { status, body } = await ask(`tasks/${asked}`, undefined);
      assert.equal(status, 200, 'however far it had come');
      assert.ok(['COMPLETED', 'FAILED'].includes(String(body['status'])), JSON.stringify(body));
    } finally {
      await second.stop();
    }
  });

  it('is refused at the start with what is wrong with its files', async () => {
    await copyFile(at('server.key'), at('open.key'));
    await chmod(at('open.key'), 0o640);
    for (const [changed, said, hint] of [
      [{ ACED_API_TLS_KEY_FILE: '' }, /api\.tls_key_file is not/, /leave api\.port out/],
      [
        { ACED_API_TLS_CERT_FILE: at('nosuch.crt') },
        /tls_cert_file: cannot read .*nosuch\.crt/,
        /may read/,
      ],
      [{ ACED_API_TLS_KEY_FILE: at('open.key') }, /others may read .*mode 0640/, /chmod 600/],
      [{ ACED_API_TLS_KEY_FILE: at('ci.key') }, /TLS cannot be had from/, /of the certificate/],
      [{ ACED_API_CLIENT_CA_FILE: at('ca.key') }, /client_ca_file: .* is not a certificate/, /PEM/],
      [{ ACED_API_ALLOWED_NAMES: '' }, /api\.allowed_names is not/, /common names/],
    ] as const) {
      const { ended: end } = startProgram('aced', [], { cwd: root, env: { ...env, ...changed } });
      const { exitCode, stderr } = await end;
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, said);
      assert.match(stderr, hint);
    }
    const taken = createServer();
    await new Promise<void>((resolve) => taken.listen(port, '127.0.0.1', resolve));
    try {
      const { exitCode, stderr } = await startProgram('aced', [], { cwd: root, env }).ended;
      assert.equal(exitCode, 2);
      assert.match(stderr, /api\.port: cannot listen on 127\.0\.0\.1/);
    } finally {
      await new Promise((resolve) => taken.close(resolve));
    }
    assert.match(await readFile(at('ca.crt'), 'utf8'), /BEGIN/, 'nothing was written over');
  });
});
