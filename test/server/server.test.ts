import assert from 'node:assert/strict';
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import {
  createWriteStream,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { request } from 'node:http';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { createLogger, silentLogger } from '../../src/base/log.js';
import { DaemonClient } from '../../src/server/client.js';
import type { ProgressEvent } from '../../src/protocol/commands.js';
import { startServer } from '../../src/server/server.js';
import type { RunningServer, ServerOptions } from '../../src/server/server.js';
import { Turns } from '../../src/server/turns.js';
import { waitFor } from '../support/wait.js';
import { EchoRunner, SERVERS } from './echo-runner.js';

const MEBIBYTE = 1024 ** 2;

let root: string;
let work: string;
let socketPath: string;
let runner: EchoRunner;
let servers: RunningServer[];

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'aced-server-'));
  work = join(root, 'work');
  mkdirSync(work);
  socketPath = join(root, 'run/deep/aced.sock');
  runner = new EchoRunner();
  servers = [];
});
afterEach(async () => {
  await Promise.all(servers.map((server) => server.close()));
  rmSync(root, { recursive: true });
});

async function start(more: Partial<ServerOptions> = {}): Promise<RunningServer> {
  const server = await startServer({
    socketPath,
    runner,
    spoolDir: join(root, 'spool'),
    log: silentLogger(),
    version: '1.2.3',
    ...more,
  });
  servers.push(server);
  return server;
}

/** A program of ours that talks to a daemon at `path`, as a process that can be stopped. */
function spawnClient(path: string, silenceMs: number): ChildProcess {
  const client = new URL('../../src/server/client.js', import.meta.url).href;
  const script = `
    const { DaemonClient } = await import(${JSON.stringify(client)});
    const daemon = new DaemonClient(${JSON.stringify(path)}, {}, { silenceMs: ${silenceMs} });
    await daemon.run('table-diff', { table: 'hang' }, { reportDir: '/', onEvent: () => process.send('begun') })
      .catch((error) => { console.log(error.code); process.exitCode = 2; });
    process.disconnect();`;
  return spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  });
}

function client(): DaemonClient {
  return new DaemonClient(socketPath);
}

interface RawAnswer {
  readonly status: number;
  readonly text: string;
  readonly headers: NodeJS.Dict<string | string[]>;
}

/** A request as another program may send it. */
async function raw(
  method: string,
  path: string,
  body = '',
  headers: Record<string, string> = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ socketPath, method, path, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text, headers: response.headers }),
      );
    });
    outgoing.on('error', reject);
    outgoing.end(body);
  });
}

function spooled(): string[] {
  return readdirSync(join(root, 'spool'));
}

describe('socket', () => {
  it('has mode 0660 whatever the umask is, and makes its directory', async () => {
    const previous = process.umask(0o002);
    try {
      await start();
      assert.equal(statSync(socketPath).mode & 0o777, 0o660);
    } finally {
      assert.equal(process.umask(previous), 0o002, 'the umask is as before');
    }
  });

  it('is never taken from somebody who listens', async () => {
    await start();
    const inode = statSync(socketPath).ino;
    await assert.rejects(start({ spoolDir: join(root, 'other') }), (error) => {
      assert.ok(error instanceof AcedError);
      assert.equal(error.code, 'SOCKET_IN_USE');
      assert.ok(error.message.includes(socketPath));
      return true;
    });
    assert.equal(statSync(socketPath).ino, inode);
    assert.equal((await client().ping()).version, '1.2.3');
  });

  it('is not taken from a listener that is no aced either', async () => {
    mkdirSync(join(root, 'run/deep'), { recursive: true });
    const other = createServer((socket) => socket.on('error', () => undefined));
    await new Promise<void>((resolve) => other.listen(socketPath, resolve));
    await assert.rejects(start(), { code: 'SOCKET_IN_USE' });
    await new Promise((resolve) => other.close(resolve));
  });

  it('replaces one that a killed process left behind', async () => {
    mkdirSync(join(root, 'run/deep'), { recursive: true });
    // A child binds the path and dies without unlinking it, as kill -9 does.
    const script = `require('net').createServer().listen(${JSON.stringify(socketPath)}, () => process.kill(process.pid, 'SIGKILL'))`;
    assert.throws(() => execFileSync(process.execPath, ['-e', script]));
    assert.ok(statSync(socketPath).isSocket());
    await start();
    assert.equal((await client().ping()).pid, process.pid);
  });

  it('does not remove what is not a socket', async () => {
    mkdirSync(join(root, 'run/deep'), { recursive: true });
    writeFileSync(socketPath, 'precious');
    await assert.rejects(start(), { code: 'BAD_CONFIG' });
    assert.equal(readFileSync(socketPath, 'utf8'), 'precious');
    rmSync(socketPath);
    symlinkSync(join(root, 'elsewhere'), socketPath);
    await assert.rejects(start(), { code: 'BAD_CONFIG' });
  });

  it('is gone after close', async () => {
    const server = await start();
    await server.close();
    assert.equal(existsSync(socketPath), false);
    assert.equal(await DaemonClient.find([socketPath]), null);
  });
});

describe('commands', () => {
  it('answers ping', async () => {
    await start({ cluster: 'hub' });
    const expected = { protocol: 1, version: '1.2.3', pid: process.pid, cluster: 'hub' };
    assert.deepEqual(await client().ping(), expected);
  });

  it('sends events, then the result', async () => {
    await start();
    const events: ProgressEvent[] = [];
    const found = await DaemonClient.find([join(root, 'nobody.sock'), socketPath]);
    assert.ok(found !== null);
    const params = { table: 'public.match', nodes: ['n1', 'n2'] };
    const onEvent = (event: ProgressEvent): number => events.push(event);
    const result = await found.run('table-diff', params, { reportDir: work, onEvent });
    assert.equal(result.verdict, 'match');
    assert.deepEqual(events, [
      { type: 'log', level: 'info', message: 'Table match is comparable' },
    ]);
    assert.deepEqual(
      runner.calls.map((call) => [call.name, call.params]),
      [['table-diff', params]],
    );
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
    assert.equal((await found.run('status', {}, { reportDir: work })).cluster, 'hub');
  });

  it("hands over the engine's errors, code and hint included", async () => {
    await start();
    const run = (table: string): Promise<unknown> =>
      client().run('table-diff', { table }, { reportDir: work });
    await assert.rejects(run('fail'), {
      code: 'NO_SUCH_TABLE',
      message: 'no table public.fail',
      hint: 'check the name',
    });
    await assert.rejects(run('crash'), { code: 'INTERNAL', message: 'a defect' });
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
  });

  it('never keeps progress for a client that does not read', async () => {
    await start();
    const result = await new Promise<string>((resolve, reject) => {
      const body = JSON.stringify({ version: 1, params: { table: 'chatty' } });
      const path = '/v1/commands/table-diff';
      const outgoing = request({ socketPath, path, method: 'POST' }, (response) => {
        // Reads nothing until the command is done: events beyond the buffers must be dropped.
        waitFor(() => runner.calls.length === 1, { what: 'the call' })
          .then(() => new Promise((done) => setImmediate(done)))
          .then(async () => {
            let text = '';
            for await (const chunk of response as AsyncIterable<Buffer>) text += String(chunk);
            resolve(text);
          })
          .catch(reject);
      });
      outgoing.on('error', reject);
      outgoing.end(body);
    });
    const lines = result.trimEnd().split('\n');
    assert.match(lines.at(-1) ?? '', /"type":"result"/);
    assert.ok(lines.length < 200_000, `${lines.length} lines came`);
  });

  const bad: readonly [
    title: string,
    send: () => Promise<RawAnswer>,
    status: number,
    text: RegExp,
  ][] = [
    ['an unknown route', () => raw('GET', '/v2/x'), 404, /UNSUPPORTED.*no such request: GET/],
    ['the wrong method', () => raw('GET', '/v1/commands/status'), 404, /no such request/],
    [
      'an unknown command',
      () => raw('POST', '/v1/commands/destroy', '{"version":1,"params":{}}'),
      404,
      /has no command destroy/,
    ],
    [
      "an object's own property as a command",
      () => raw('POST', '/v1/commands/constructor', '{"version":1,"params":{}}'),
      404,
      /has no command/,
    ],
    [
      'another protocol version',
      () => raw('POST', '/v1/commands/status', '{"version":2,"params":{}}'),
      404,
      /speaks protocol 1, the request is for 2.*same release/,
    ],
    ['no JSON', () => raw('POST', '/v1/commands/status', '{'), 400, /not valid JSON/],
    [
      'an unknown parameter',
      () => raw('POST', '/v1/commands/status', '{"version":1,"params":{"x":1}}'),
      400,
      /status has no parameter/,
    ],
    [
      'a ratio that is none',
      () =>
        raw(
          'POST',
          '/v1/commands/mtree-build',
          '{"version":1,"params":{"table":"t","maxCpuRatio":1e308}}',
        ),
      400,
      /mtree-build: maxCpuRatio is not acceptable/,
    ],
    [
      'a block without rows',
      () =>
        raw(
          'POST',
          '/v1/commands/table-diff',
          '{"version":1,"params":{"table":"t","blockSize":0}}',
        ),
      400,
      /table-diff: blockSize is not acceptable/,
    ],
    [
      'a factor beyond its limit',
      () =>
        raw(
          'POST',
          '/v1/commands/table-diff',
          '{"version":1,"params":{"table":"t","concurrencyFactor":5}}',
        ),
      400,
      /table-diff: concurrencyFactor is not acceptable/,
    ],
    [
      'a wait without end',
      () =>
        raw(
          'POST',
          '/v1/commands/mtree-update',
          '{"version":1,"params":{"table":"t","cdcTimeoutMs":1e12}}',
        ),
      400,
      /mtree-update: cdcTimeoutMs is not acceptable/,
    ],
    [
      'a parameter of another type',
      () => raw('POST', '/v1/commands/mtree-build', '{"version":1,"params":{"table":5}}'),
      400,
      /mtree-build: table is not acceptable/,
    ],
    [
      'a missing table',
      () => raw('POST', '/v1/commands/mtree-build', '{"version":1,"params":{}}'),
      400,
      /table is missing/,
    ],
    [
      'a request without end',
      () => raw('POST', '/v1/commands/status', ' '.repeat(MEBIBYTE + 1)),
      400,
      /too large/,
    ],
    ['a repair without its header', () => raw('POST', '/v1/commands/table-repair'), 400, /JSON/],
    ['a file of no command', () => raw('GET', '/v1/files/x/y.json'), 500, /not there/],
    ['a file name that is no text', () => raw('GET', '/v1/files/x/%zz'), 400, /not valid/],
  ];
  for (const [title, send, status, text] of bad) {
    it(`refuses ${title}`, async () => {
      await start();
      const answer = await send();
      assert.equal(answer.status, status);
      assert.match(answer.text, text);
      assert.equal((JSON.parse(answer.text) as { type: string }).type, 'error');
      assert.deepEqual(runner.calls, []);
    });
  }

  it('refuses a command for another cluster or database', async () => {
    await start({ cluster: 'hub', servers: SERVERS });
    const run = (identity: { cluster?: string; database?: string }): Promise<unknown> =>
      new DaemonClient(socketPath, identity).run('status', {}, { reportDir: work });
    await assert.rejects(run({ cluster: 'other' }), { code: 'UNKNOWN_CLUSTER' });
    await assert.rejects(run({ database: 'b' }), { message: /serves database app, not b/ });
    await run({ cluster: 'hub', database: 'app' });
  });
});

describe('cancelling', () => {
  it('stops the command when the client goes away', async () => {
    await start();
    const controller = new AbortController();
    const options = { reportDir: work, signal: controller.signal };
    const running = client().run('table-diff', { table: 'hang' }, options);
    await waitFor(() => runner.calls.length === 1, { what: 'the command to run' });
    controller.abort();
    await assert.rejects(running, { code: 'CANCELLED' });
    await waitFor(() => runner.cancelled === 1, { what: 'the command to be cancelled' });
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
  });

  it('stops it when the client dies', async () => {
    await start();
    const body = JSON.stringify({ version: 1, params: { table: 'hang' } });
    const socket = connect(socketPath);
    socket.write(
      `POST /v1/commands/table-diff HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
    );
    await waitFor(() => runner.calls.length === 1, { what: 'the command to run' });
    socket.destroy();
    await waitFor(() => runner.cancelled === 1, { what: 'the command to be cancelled' });
  });

  it('D11: a client that dies while it uploads is no failure of the daemon', async () => {
    const lines: Record<string, unknown>[] = [];
    const log = createLogger('debug', {
      write: (line: string) => lines.push(JSON.parse(line) as Record<string, unknown>),
    });
    await start({ log });
    const params = Buffer.from('{"version":1,"params":{"table":"t"}}').toString('base64url');
    const socket = connect(socketPath);
    socket.write(
      `POST /v1/commands/table-repair HTTP/1.1\r\nhost: x\r\nx-aced-params: ${params}\r\n` +
        'content-length: 1000000\r\n\r\n{',
    );
    await waitFor(() => spooled().length > 0, { what: 'the upload to begin' });
    socket.destroy();
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
    assert.deepEqual(
      lines.filter(({ level }) => level === 'error' || level === 'warn'),
      [],
    );
  });

  it('tells clients that the daemon stops, and does not wait for the stubborn', async () => {
    const server = await start({ closeTimeoutMs: 100 });
    const hanging = client().run('table-diff', { table: 'hang' }, { reportDir: work });
    const stubborn = client().run('table-diff', { table: 'stubborn' }, { reportDir: work });
    const refusals = Promise.all([
      assert.rejects(hanging, { code: 'CANCELLED', message: /aced is stopping/ }),
      assert.rejects(stubborn, { code: 'DAEMON_UNREACHABLE' }),
    ]);
    await waitFor(() => runner.calls.length === 2, { what: 'the commands to run' });
    // The stubborn one never ends.
    await server.close();
    await refusals;
    assert.equal(existsSync(socketPath), false);
  });
});

describe('files', () => {
  it('arrive in the working directory, with their folders, and are gone from the spool', async () => {
    const name = 'reports/2026-01-01/repair report ü.json';
    runner.files = new Map([
      ['a.json', 'one'],
      [name, 'two'],
    ]);
    await start();
    const result = await client().run('table-diff', { table: 'drift' }, { reportDir: work });
    assert.deepEqual(result.files, ['a.json', name]);
    assert.equal(readFileSync(join(work, 'a.json'), 'utf8'), 'one');
    assert.equal(readFileSync(join(work, name), 'utf8'), 'two');
    assert.deepEqual(readdirSync(work).sort(), ['a.json', 'reports']);
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
  });

  it('are offered by name only, once, and no others', async () => {
    runner.files = new Map([
      ['a.json', 'one'],
      ['b.json', 'two'],
    ]);
    await start();
    const body = JSON.stringify({ version: 1, params: { table: 'drift' } });
    const { headers } = await raw('POST', '/v1/commands/table-diff', body);
    const id = String(headers['x-aced-command']);
    for (const name of ['../../secret', '..%2f..%2fsecret', 'c.json', '%2e%2e/x', 'input']) {
      assert.equal((await raw('GET', `/v1/files/${id}/${name}`)).status, 500, name);
    }
    assert.equal((await raw('GET', `/v1/files/${id}/a.json`)).text, 'one');
    await waitFor(async () => (await raw('GET', `/v1/files/${id}/a.json`)).status === 500, {
      what: 'the fetched file to be gone',
    });
    // Fetched by many at once it is whole or not there, never cut off.
    const fetches = Array.from({ length: 20 }, () => raw('GET', `/v1/files/${id}/b.json`));
    const answers = (await Promise.all(fetches)).map(({ status, text }) =>
      status === 200 ? text : status,
    );
    assert.ok(answers.includes('two'));
    assert.deepEqual(
      answers.filter((answer) => answer !== 'two' && answer !== 500),
      [],
    );
  });

  it('expire', async () => {
    await start({ reportExpiryMs: 50 });
    const body = JSON.stringify({ version: 1, params: { table: 'drift' } });
    await raw('POST', '/v1/commands/table-diff', body);
    await waitFor(() => spooled().length === 0, { what: 'the report to expire' });
  });

  it('of an earlier process are removed at the start, and nothing else is', async () => {
    const spool = join(root, 'spool');
    mkdirSync(join(spool, 'command-old'), { recursive: true });
    writeFileSync(join(spool, 'notes.txt'), 'mine');
    await start();
    assert.deepEqual(spooled(), ['notes.txt']);
  });

  it('never leave the directory, whatever the daemon says', async () => {
    for (const evil of ['../evil.json', '/tmp/evil.json', 'a/../../evil.json']) {
      const liar = {
        run: async () =>
          Promise.resolve({
            ...(await new EchoRunner().run('table-diff', { table: 'x' }, context())),
            files: [evil],
          }),
      };
      const path = join(root, 'liar.sock');
      const server = await start({
        socketPath: path,
        runner: liar as unknown as ServerOptions['runner'],
        spoolDir: join(root, 'liar'),
      });
      const run = new DaemonClient(path).run('table-diff', { table: 'x' }, { reportDir: work });
      await assert.rejects(run, { code: 'REPORT_WRITE', message: /refused to write/ });
      await server.close();
    }
    assert.deepEqual(readdirSync(work), []);
  });

  it('that cannot be written are an error, and leave nothing half-made', async () => {
    await start();
    writeFileSync(join(work, 'sub'), 'a file where a folder should be');
    runner.files = new Map([['sub/a.json', 'x']]);
    const run = client().run('table-diff', { table: 'drift' }, { reportDir: work });
    await assert.rejects(run, { code: 'REPORT_WRITE' });
    assert.deepEqual(readdirSync(work), ['sub']);
  });

  it('of 100 MB go both ways in little memory', async () => {
    const sizeBytes = 100 * MEBIBYTE;
    const upload = join(root, 'upload.json');
    const stream = createWriteStream(upload);
    const chunk = Buffer.alloc(MEBIBYTE, 'x');
    for (let i = 0; i < 100; i += 1) if (!stream.write(chunk)) await drained(stream);
    await new Promise<void>((resolve) => stream.end(resolve));
    runner.files = new Map([['big.json', Buffer.alloc(sizeBytes, 'y')]]);
    await start();
    const before = process.memoryUsage().rss;
    let peak = before;
    const timer = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 5);
    const options = { reportDir: work, inputPath: upload, inputName: 'mine.json' };
    await client().run('table-repair', { table: 't', sourceOfTruth: 'n1' }, options);
    await client().run('table-diff', { table: 'drift' }, { reportDir: work });
    clearInterval(timer);
    const [repair] = runner.calls;
    assert.deepEqual([repair?.inputName, repair?.inputBytes], ['mine.json', sizeBytes]);
    assert.equal(statSync(join(work, 'big.json')).size, sizeBytes);
    const growth = (peak - before) / MEBIBYTE;
    assert.ok(growth < 60, `grew by ${growth.toFixed(0)} MiB`);
  });
});

describe('uploads', () => {
  it('beyond the limit are refused, announced or not', async () => {
    await start({ maxInputBytes: 10 });
    const upload = join(root, 'upload.json');
    writeFileSync(upload, 'x'.repeat(5 * MEBIBYTE));
    const options = { reportDir: work, inputPath: upload };
    const run = client().run('table-repair', { table: 't' }, options);
    await assert.rejects(run, { code: 'BAD_DIFF_FILE', message: /larger than 10 bytes/ });
    const params = Buffer.from('{"version":1,"params":{"table":"t"}}').toString('base64url');
    const headers = {
      'x-aced-params': params,
      'transfer-encoding': 'chunked',
      connection: 'keep-alive',
    };
    const answer = await raw(
      'POST',
      '/v1/commands/table-repair',
      'x'.repeat(5 * MEBIBYTE),
      headers,
    );
    assert.match(answer.text, /BAD_DIFF_FILE/);
    assert.deepEqual(runner.calls, []);
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
  });

  it('that cannot be stored are refused, and the daemon goes on', async () => {
    await start();
    rmSync(join(root, 'spool'), { recursive: true });
    const upload = join(root, 'upload.json');
    writeFileSync(upload, 'x'.repeat(5 * MEBIBYTE));
    const options = { reportDir: work, inputPath: upload };
    const run = (): Promise<unknown> => client().run('table-repair', { table: 't' }, options);
    await assert.rejects(run(), { code: 'REPORT_WRITE', message: /cannot store .*spool/ });
    mkdirSync(join(root, 'spool'));
    await run();
  });

  it('of a file that is not there, or is a directory, fail before anything is sent', async () => {
    await start();
    for (const inputPath of [join(root, 'nope.json'), root]) {
      const run = client().run('table-repair', { table: 't' }, { reportDir: work, inputPath });
      const message = new RegExp(`^cannot read ${inputPath}: `);
      await assert.rejects(run, { code: 'BAD_DIFF_FILE', message });
    }
    assert.deepEqual(runner.calls, []);
  });

  it('that break off cancel the command', async () => {
    await start();
    const params = Buffer.from('{"version":1,"params":{"table":"t"}}').toString('base64url');
    const socket = connect(socketPath);
    socket.write(
      `POST /v1/commands/table-repair HTTP/1.1\r\nhost: x\r\nx-aced-params: ${params}\r\ncontent-length: 1000\r\n\r\nabc`,
    );
    await waitFor(() => spooled().length === 1, { what: 'the upload to begin' });
    socket.destroy();
    await waitFor(() => spooled().length === 0, { what: 'the spool to be empty' });
    assert.deepEqual(runner.calls, []);
  });
});

function context(): Parameters<EchoRunner['run']>[2] {
  return { signal: new AbortController().signal, emit: () => undefined, reportDir: work };
}

async function drained(stream: NodeJS.WritableStream): Promise<void> {
  await new Promise<void>((resolve) => stream.once('drain', resolve));
}

describe('a daemon that says nothing', () => {
  const sockets: Socket[] = [];

  // They never read, so that they do not notice that the other end has gone.
  afterEach(() => {
    for (const socket of sockets.splice(0)) socket.destroy();
  });

  /** One that is frozen accepts connections all the same: the kernel does. */
  async function frozen(answer: string): Promise<string> {
    const path = join(root, 'frozen.sock');
    const server = createServer((socket) => {
      sockets.push(socket);
      socket.on('error', () => undefined);
      socket.write(answer);
    });
    servers.push({
      close: () => {
        server.close();
        return Promise.resolve();
      },
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    return path;
  }

  const BEGUN = 'HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\n\r\n{"type":"alive"}\n';

  for (const [when, answer] of [
    ['from the start', ''],
    ['in the middle of an answer', BEGUN],
  ] as const) {
    it(`is given up: ${when}`, async () => {
      const path = await frozen(answer);
      const run = new DaemonClient(path, {}, { silenceMs: 200 }).run(
        'table-diff',
        { table: 't' },
        { reportDir: work },
      );
      await assert.rejects(run, (error: AcedError) => {
        assert.equal(error.code, 'DAEMON_UNREACHABLE');
        assert.match(error.message, /has not said anything/);
        assert.match(error.hint ?? '', /stopped or hangs/);
        return true;
      });
    });
  }

  it('while a file is being sent to it', async () => {
    const path = await frozen('');
    const file = join(root, 'diff.json');
    writeFileSync(file, Buffer.alloc(8 * MEBIBYTE));
    const run = new DaemonClient(path, {}, { silenceMs: 200 }).run(
      'table-repair',
      { table: 't', sourceOfTruth: 'n1' },
      { reportDir: work, inputPath: file },
    );
    await assert.rejects(run, { code: 'DAEMON_UNREACHABLE' });
  });

  it('a command that has nothing to say for long is not: the daemon is alive', async () => {
    await start();
    const abort = new AbortController();
    let isOver = false;
    const run = new DaemonClient(socketPath, {}, { silenceMs: 2_500 }).run(
      'table-diff',
      { table: 'hang' },
      { reportDir: work, signal: abort.signal },
    );
    run.catch(() => (isOver = true));
    const seen = performance.now();
    await waitFor(() => isOver || performance.now() - seen > 6_000, {
      what: 'more than twice the time that it may say nothing',
    });
    assert.equal(isOver, false);
    abort.abort();
    await assert.rejects(run, { code: 'CANCELLED' });
  });

  it('a client that was stopped itself does not give up', async () => {
    await start();
    const child = spawnClient(socketPath, 2_500);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    let said = '';
    child.stdout?.on('data', (text: Buffer) => (said += text.toString()));
    await new Promise((resolve) => child.once('message', resolve));
    child.kill('SIGSTOP');
    const stoppedAt = performance.now();
    await waitFor(() => performance.now() - stoppedAt > 4_000, { what: 'the client to sleep' });
    child.kill('SIGCONT');
    const wokenAt = performance.now();
    await waitFor(() => child.exitCode !== null || performance.now() - wokenAt > 3_000, {
      what: 'the client to go on',
    });
    assert.equal(child.exitCode, null, said);
    await Promise.all(servers.map((server) => server.close()));
    await exited;
    assert.equal(said.trim(), 'CANCELLED');
  });
});

describe('a daemon that has enough to do', () => {
  it('refuses one more command, and always answers status', async () => {
    await start({ turns: new Turns(2) });
    const abort = new AbortController();
    const options = { reportDir: work, signal: abort.signal };
    const hanging = [1, 2].map(() => client().run('table-diff', { table: 'hang' }, options));
    const ended = Promise.allSettled(hanging);
    await waitFor(() => runner.calls.length === 2, { what: 'both to run' });
    await assert.rejects(client().run('table-diff', { table: 't' }, { reportDir: work }), {
      code: 'BUSY',
    });
    assert.equal((await client().run('status', {}, { reportDir: work })).cluster, 'hub');
    abort.abort();
    await ended;
    await waitFor(() => runner.cancelled === 2, { what: 'both to end' });
    const { verdict } = await client().run('table-diff', { table: 't' }, { reportDir: work });
    assert.equal(verdict, 'match');
  });
});
