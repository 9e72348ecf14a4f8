import assert from 'node:assert/strict';
import { once } from 'node:events';
import { chmod, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { silentLogger } from '../../src/base/log.js';
import { EventSpool } from '../../src/observe/event-spool.js';
import { commandTarget, webhookTarget } from '../../src/observe/hook-targets.js';
import { Hook } from '../../src/observe/hook.js';
import { startProgram } from '../cli/program.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

const TOKEN = 'token-that-nobody-logs';

interface Posted {
  readonly headers: IncomingHttpHeaders;
  readonly event: Readonly<Record<string, unknown>>;
}

/** A real receiver; `status` 0: it takes requests and never answers. */
class Receiver {
  readonly posted: Posted[] = [];
  status = 200;
  readonly #server: Server;

  constructor() {
    this.#server = createServer((request, response) => {
      let text = '';
      request.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      request.on('end', () => {
        if (this.status === 0) return;
        const { headers } = request;
        const event = JSON.parse(text) as Posted['event'];
        if (this.status === 200) this.posted.push({ headers, event });
        response.writeHead(this.status, { location: 'http://127.0.0.1:1/' }).end('x');
      });
    });
  }

  async listen(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/in?token=${TOKEN}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

const event = (incident: string, revision: number, name = 'drift_updated') => ({
  level: 'warn' as const,
  fields: { event: name, incident, revision },
  message: 'm',
});

describe('hooks of a daemon on real nodes', () => {
  let mesh: Mesh;
  let root: string;
  let url: string;
  const receiver = new Receiver();

  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    await mesh.query('n1', "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 50) AS i");
    await mesh.waitForReplication();
    root = await scratchDirectory();
    await mesh.writeServiceFile(root);
    url = await receiver.listen();
    await writeFile(join(root, 'hook'), `#!/bin/sh\ncat >> ${join(root, 'seen')}\n`);
    await chmod(join(root, 'hook'), 0o755);
  });

  after(async () => {
    receiver.close();
    await mesh.stop();
    await removeDirectory(root);
  });

  function start(program: 'aced' | 'acectl', args: readonly string[], more = {}) {
    return startProgram(program, args, {
      cwd: root,
      env: {
        HOME: root,
        PGSERVICEFILE: join(root, 'pg_service.conf'),
        ACED_CLUSTER: 'demo',
        ACED_STATE_DIR: join(root, 'state'),
        ACED_SOCKET: join(root, 'aced.sock'),
        ACED_HOOKS_WEBHOOK: url,
        ACED_HOOKS_AUTHORIZATION: `Bearer ${TOKEN}`,
        ACED_HOOKS_COMMAND: join(root, 'hook'),
        ...more,
      },
    });
  }

  async function startDaemon() {
    const daemon = { ...start('aced', []), log: '' };
    daemon.child.stdout?.on('data', (text: string) => (daemon.log += text));
    await waitFor(() => daemon.log.includes('"event":"ready"'), { what: 'aced to be ready' });
    return daemon;
  }

  it('hand events on, after a kill -9 too, and no secret is logged', async () => {
    receiver.status = 0;
    const first = await startDaemon();
    for (const args of [['init'], ['build', 't']]) {
      const { exitCode, stderr } = await start('acectl', ['mtree', ...args]).ended;
      assert.equal(exitCode, 0, stderr);
    }
    await mesh.driftSql('n2', 'DELETE FROM t WHERE id = 7');
    const spool = join(root, 'state/hooks/webhook');
    const isSpooled = async (): Promise<boolean> =>
      (await readdir(spool)).some((name) => name.endsWith('.json'));
    await waitFor(async () => first.log.includes('drift_opened') && (await isSpooled()), {
      what: 'the event in the spool',
      timeoutMs: 30_000,
    });
    // A receiver that never answers holds nobody up.
    assert.equal((await start('acectl', ['drift', 'list']).ended).exitCode, 1);
    await waitFor(() => /drift_opened/.test(first.log), { what: 'the log line' });
    const seen = async (): Promise<string> => readFile(join(root, 'seen'), 'utf8').catch(() => '');
    await waitFor(async () => (await seen()).includes('drift_opened'), { what: 'the command' });
    first.child.kill('SIGKILL');
    await first.ended;

    receiver.status = 200;
    const second = await startDaemon();
    const got = (name: string) => receiver.posted.find(({ event: one }) => one['event'] === name);
    await waitFor(() => got('drift_opened') !== undefined, {
      what: 'the event',
      timeoutMs: 30_000,
    });
    const { headers, event: opened } = got('drift_opened') ?? { headers: {}, event: {} };
    assert.equal(headers.authorization, `Bearer ${TOKEN}`);
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers['idempotency-key'], `${String(opened['incident'])}/1`);
    assert.equal(opened['table'], 'public.t');
    await mesh.driftSql('n2', "INSERT INTO t VALUES (7, 'v')");
    await waitFor(() => got('drift_resolved') !== undefined, {
      what: 'its end',
      timeoutMs: 30_000,
    });
    second.child.kill('SIGTERM');
    const { exitCode, stdout } = await second.ended;
    assert.equal(exitCode, 0);
    assert.ok(!`${first.log}${stdout}`.includes(TOKEN));
    const shown = await start('acectl', ['config', 'show']).ended;
    assert.equal(shown.exitCode, 0, shown.stderr);
    assert.match(shown.stdout, /\(set\)/);
    assert.ok(!`${shown.stdout}${shown.stderr}`.includes(TOKEN), shown.stdout);
    const lines = (await seen()).trimEnd().split('\n');
    const events = lines.map((line) => (JSON.parse(line) as { event: string }).event);
    assert.ok(events.includes('drift_resolved'), events.join());
  });

  it('that cannot be are refused with 2, and their secrets not shown', async () => {
    for (const [more, text] of [
      [
        { ACED_HOOKS_WEBHOOK: `ftp://x/${TOKEN}` },
        /ACED_HOOKS_WEBHOOK: "\(hidden\)" is not accepted/,
      ],
      [{ ACED_HOOKS_AUTHORIZATION: `a\n${TOKEN}` }, /ACED_HOOKS_AUTHORIZATION: "\(hidden\)"/],
      [{ ACED_HOOKS_COMMAND: '/nonexistent' }, /hooks\.command: \/nonexistent cannot be run/],
    ] as const) {
      const { exitCode, stdout, stderr } = await start('aced', [], more).ended;
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, text);
      assert.ok(!`${stdout}${stderr}`.includes(TOKEN));
    }
  });
});

describe('a hook', () => {
  let root: string;
  before(async () => {
    root = await scratchDirectory();
  });
  after(() => removeDirectory(root));

  it('tries again until it is taken, in order; updates of an incident replace each other', async () => {
    const receiver = new Receiver();
    const url = await receiver.listen();
    receiver.status = 503;
    const hook = new Hook({
      name: 'webhook',
      target: webhookTarget(url, null),
      directory: join(root, 'order'),
      log: silentLogger(),
      backoff: { firstMs: 5, maxMs: 20 },
    });
    hook.tell(event('a', 1, 'drift_opened'));
    for (const revision of [2, 3, 4, 4]) hook.tell(event('a', revision));
    hook.tell(event('b', 1, 'drift_opened'));
    hook.tell(event('a', 5, 'drift_resolved'));
    receiver.status = 302;
    receiver.status = 200;
    await waitFor(() => receiver.posted.length === 3, { what: 'three events' });
    assert.deepEqual(
      receiver.posted.map(({ event: one }) => [one['incident'], one['revision']]),
      [
        ['a', 1],
        ['b', 1],
        ['a', 5],
      ],
    );
    await waitFor(async () => (await readdir(join(root, 'order'))).length === 0, {
      what: 'an empty spool',
    });
    await hook.stop();
    receiver.close();
  });

  it('lets the oldest go when too many wait, says so, and goes past what is refused', async () => {
    const receiver = new Receiver();
    const url = await receiver.listen();
    const directory = join(root, 'bound');
    const dropped: number[] = [];
    const spool = new EventSpool({
      directory,
      maxEvents: 3,
      onDropped: (count) => dropped.push(count),
      onUnwritten: (error) => assert.fail(String(error)),
    });
    for (let incident = 1; incident <= 5; incident++) {
      spool.add(event(String(incident), 1, 'drift_opened').fields);
    }
    assert.deepEqual(dropped, [1, 1]);
    assert.equal((await readdir(directory)).length, 3);
    // What a kill leaves behind half written.
    await writeFile(join(directory, '000000000009.json'), '{"event":"dri');
    receiver.status = 422;
    const hook = new Hook({
      name: 'webhook',
      target: webhookTarget(url, null),
      directory,
      log: silentLogger(),
    });
    await waitFor(async () => (await readdir(directory)).length === 0, { what: 'all refused' });
    await hook.stop();
    receiver.close();
  });

  it('ends a command that hangs, with what it started, when the daemon stops', async () => {
    await mkdir(join(root, 'command'));
    const program = join(root, 'command/hang');
    await writeFile(program, `#!/bin/sh\nsleep 600 & echo $! > ${root}/pid; wait\n`);
    await chmod(program, 0o755);
    const hook = new Hook({
      name: 'command',
      target: commandTarget(program),
      directory: join(root, 'hang'),
      log: silentLogger(),
    });
    hook.tell(event('a', 1, 'drift_opened'));
    const pid = async (): Promise<number> =>
      Number(await readFile(join(root, 'pid'), 'utf8').catch(() => '0'));
    await waitFor(async () => (await pid()) > 0, { what: 'the command to run' });
    await hook.stop();
    const runs = async (): Promise<boolean> => {
      const state = await readFile(`/proc/${await pid()}/stat`, 'utf8').catch(() => ') Z');
      return !/\) [ZX]/.test(state);
    };
    await waitFor(async () => !(await runs()), { what: 'what it started to end' });
    assert.equal(
      (await readdir(join(root, 'hang'))).length,
      1,
      'the event waits for the next start',
    );
  });
});
