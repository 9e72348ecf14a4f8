import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream/promises';
import { AcedError, errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { isCommandName, isObject, parseParams } from '../protocol/params.js';
import { PROTOCOL_VERSION } from '../protocol/commands.js';
import type {
  CommandEnd,
  CommandName,
  CommandRunner,
  ProgressEvent,
} from '../protocol/commands.js';
import { listenOnInherited, listenOnSocket } from './socket.js';
import { peerUidOf } from './peer.js';
import { isApiPath, type Api } from './api.js';
import { parseJson, readText } from './request-body.js';
import { Spool } from './spool.js';
import type { Turns } from './turns.js';
import { answerObserver, isObserving, type Observed } from './metrics-listener.js';
import {
  ALIVE_INTERVAL_MS,
  COMMAND_ID_HEADER,
  PARAMS_HEADER,
  errorEnd,
  takesInput,
} from '../protocol/wire.js';
import type { AliveLine, PingAnswer } from '../protocol/wire.js';
import { readServers } from '../protocol/params.js';
import { describeServers, sameServers, type Servers } from '../protocol/servers.js';

export interface ServerOptions {
  readonly socketPath: string;
  /** Of a socket that listens already, see takeInheritedSocket; null or absent: none. */
  readonly inheritedSocket?: number | null;
  readonly runner: CommandRunner;
  /** For uploads and reports; its left-overs are removed at the start. */
  readonly spoolDir: string;
  readonly log: Logger;
  readonly version: string;
  /** A command for another cluster, other servers or another database is refused. Absent: not checked. */
  readonly cluster?: string;
  readonly servers?: Servers;
  /** Answers `GET /metrics` and `GET /health`, here too. Null, as yet, or absent: neither is there. */
  readonly observed?: () => Observed | null;
  readonly reportExpiryMs?: number;
  readonly maxInputBytes?: number;
  /** Commands that run at a time; one more is refused with BUSY. Absent: no limit. */
  readonly turns?: Turns;
  /** Answers ACE's routes, here too. Absent: there are none. */
  readonly api?: Api;
  /** How long close() waits for commands to end. */
  readonly closeTimeoutMs?: number;
}

export interface RunningServer {
  /** Stops accepting, cancels what runs and waits for it, within bounds. May be called twice. */
  close(): Promise<void>;
}

const REPORT_EXPIRY_MS = 10 * 60_000;
/** Well below a disk: the state is on the same one. */
const MAX_INPUT_BYTES = 8 * 1024 ** 3;
const MAX_ENVELOPE_BYTES = 1024 ** 2;
const CLOSE_TIMEOUT_MS = 5_000;
/** They read memory: who is on call must get an answer when everything else is busy. */
const ALWAYS_ANSWERED: ReadonlySet<CommandName> = new Set([
  ...(['status', 'drift-list', 'drift-show', 'names', 'top'] as const),
]);

/** Asked for every second, or at every tab: what ends well is told at level debug. */
const ASKED_OFTEN: ReadonlySet<CommandName> = new Set(['names', 'top']);

/** HTTP and JSON over a unix socket. Errors: SOCKET_IN_USE, BAD_CONFIG. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const spool = new Spool({
    directory: options.spoolDir,
    expiryMs: options.reportExpiryMs ?? REPORT_EXPIRY_MS,
    maxInputBytes: options.maxInputBytes ?? MAX_INPUT_BYTES,
  });
  const handler = new RequestHandler(options, spool);
  const server = createServer(
    { maxHeaderSize: MAX_HEADER_BYTES },
    (request, response) => void handler.handle(request, response),
  );
  // A large diff file, or one from a slow disk, may take as long as it takes.
  server.requestTimeout = 0;
  const { inheritedSocket = null } = options;
  if (inheritedSocket === null) await listenOnSocket(server, options.socketPath);
  else await listenOnInherited(server, inheritedSocket);
  server.on('error', (error) => options.log.error({ event: 'server_error', err: error }));
  let closing: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    await handler.stop(options.closeTimeoutMs ?? CLOSE_TIMEOUT_MS);
    server.closeAllConnections();
    await closed;
    spool.close();
  };
  return { close: () => (closing ??= close()) };
}

type Params = ReturnType<typeof parseParams>;

/** Beside a diff file, which is the body, the parameters travel in a header: a repair plan too. */
const MAX_HEADER_BYTES = 8 * 1024 * 1024;

class RequestHandler {
  readonly #options: ServerOptions;
  readonly #spool: Spool;
  readonly #stopping = new AbortController();
  readonly #running = new Set<Promise<void>>();

  constructor(options: ServerOptions, spool: Spool) {
    this.#options = options;
    this.#spool = spool;
  }

  async handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Either side may vanish at any time; what that means is dealt with where it matters.
    request.on('error', () => undefined);
    response.on('error', () => undefined);
    const work = this.#route(request, response).catch((error: unknown) => {
      refuse(response, this.#explain(error));
      // The rest of an upload is thrown away, so that its sender reads the answer.
      request.resume();
    });
    this.#running.add(work);
    await work;
    this.#running.delete(work);
  }

  async stop(timeoutMs: number): Promise<void> {
    this.#stopping.abort();
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, timeoutMs);
    });
    await Promise.race([Promise.all(this.#running), deadline]);
    clearTimeout(timer);
  }

  async #route(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    const [, version, kind, first, ...rest] = path.split('/');
    const route = `${request.method ?? ''} ${kind ?? ''}`;
    if (version === 'v1' && first === undefined && route === 'GET ping') {
      const answer: PingAnswer = {
        protocol: PROTOCOL_VERSION,
        version: this.#options.version,
        pid: process.pid,
        cluster: this.#options.cluster ?? null,
      };
      sendJson(response, 200, answer);
      return;
    }
    if (isApiPath(path) && this.#options.api !== undefined) {
      await this.#options.api.handle(request, response, { peerUid: peerUidOf(request.socket) });
      return;
    }
    const observed = this.#options.observed?.() ?? null;
    if (observed !== null && isObserving(request)) {
      await answerObserver(request, response, observed);
      return;
    }
    if (version === 'v1' && first !== undefined) {
      if (route === 'POST commands' && rest.length === 0) {
        await this.#command(first, request, response);
        return;
      }
      if (route === 'GET files' && rest.length > 0) {
        await this.#file(first, decode(rest.join('/')), response);
        return;
      }
    }
    throw new AcedError('UNSUPPORTED', `no such request: ${request.method ?? ''} ${path}`, {
      hint: 'Use acectl and aced of the same release.',
    });
  }

  async #command(name: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (!isCommandName(name)) {
      throw new AcedError('UNSUPPORTED', `aced ${this.#options.version} has no command ${name}`, {
        hint: 'Use acectl and aced of the same release.',
      });
    }
    const envelope = parseJson(
      takesInput(name) ? paramsHeader(request) : await readText(request, MAX_ENVELOPE_BYTES),
    );
    const params = parseParams(name, this.#checkEnvelope(envelope));
    if (takesInput(name)) {
      this.#spool.checkInputSize(Number(request.headers['content-length'] ?? 0));
    }
    const release = this.#takeTurn(name);
    try {
      await this.#answer(name, { params, envelope }, request, response);
    } finally {
      release();
    }
  }

  async #answer(
    name: CommandName,
    { params, envelope }: { readonly params: Params; readonly envelope: unknown },
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<void> {
    const { id, directory } = this.#spool.create();
    let alive: NodeJS.Timeout | undefined;
    const gone = new AbortController();
    const signal = AbortSignal.any([gone.signal, this.#stopping.signal]);
    response.on('close', () => {
      if (!response.writableFinished) gone.abort();
    });
    let offered = false;
    try {
      const inputPath = takesInput(name)
        ? await this.#spool.receive(id, request, signal)
        : undefined;
      response.writeHead(200, {
        'content-type': 'application/x-ndjson',
        [COMMAND_ID_HEADER]: id,
      });
      response.flushHeaders();
      // A command that does not end must not keep a daemon from ending.
      alive = setInterval(() => sendAlive(response), ALIVE_INTERVAL_MS).unref();
      const end = await this.#run(name, {
        params,
        signal,
        directory,
        inputPath,
        inputName: isObject(envelope) ? textOf(envelope['inputName']) : undefined,
        peerUid: peerUidOf(request.socket),
        emit: (event) => sendEvent(response, event),
      });
      if (end.type === 'result' && !signal.aborted) {
        this.#spool.offer(id, 'files' in end.result ? end.result.files : []);
        offered = true;
      }
      response.end(`${JSON.stringify(end)}\n`);
    } catch (error) {
      throw gone.signal.aborted ? clientGone(error) : error;
    } finally {
      clearInterval(alive);
      if (!offered) this.#spool.discard(id);
    }
  }

  /** Returns what ends the command's turn. Errors: BUSY. */
  #takeTurn(name: CommandName): () => void {
    const { turns } = this.#options;
    return turns === undefined || ALWAYS_ANSWERED.has(name) ? () => undefined : turns.take();
  }

  async #run(
    name: CommandName,
    work: {
      readonly params: Params;
      readonly signal: AbortSignal;
      readonly directory: string;
      readonly inputPath: string | undefined;
      readonly inputName: string | undefined;
      readonly peerUid: number | null;
      readonly emit: (event: ProgressEvent) => void;
    },
  ): Promise<CommandEnd> {
    const { runner, log } = this.#options;
    const startedMs = performance.now();
    log.debug({ event: 'command_started', command: name });
    let end: CommandEnd;
    try {
      const result = await runner.run(name, work.params, {
        signal: work.signal,
        emit: work.emit,
        reportDir: work.directory,
        peerUid: work.peerUid,
        ...(work.inputPath === undefined ? {} : { inputPath: work.inputPath }),
        ...(work.inputName === undefined ? {} : { inputName: work.inputName }),
      });
      end = { type: 'result', result };
    } catch (error) {
      // Whatever a command says whose client has gone, it is no failure of ours.
      const isGone = work.signal.aborted && !this.#stopping.signal.aborted;
      end = errorEnd(isGone ? clientGone(error) : this.#explain(error));
    }
    const tookMs = Math.round(performance.now() - startedMs);
    const outcome = end.type === 'error' ? end.code : 'done';
    const level = ASKED_OFTEN.has(name) && end.type === 'result' ? 'debug' : 'info';
    log[level]({ event: 'command_finished', command: name, outcome, tookMs });
    return end;
  }

  /** The command's parameters, still unchecked. */
  #checkEnvelope(envelope: unknown): unknown {
    const { version, cluster, servers } = this.#options;
    const fields = isObject(envelope) ? envelope : {};
    const { version: spoken } = fields;
    const wanted = textOf(fields['cluster']);
    const database = textOf(fields['database']);
    if (spoken !== PROTOCOL_VERSION) {
      const text = `this aced (${version}) speaks protocol ${PROTOCOL_VERSION}, the request is for ${JSON.stringify(spoken)}`;
      throw new AcedError('UNSUPPORTED', text, {
        hint: 'Use acectl and aced of the same release.',
      });
    }
    if (cluster !== undefined && wanted !== undefined && wanted !== cluster) {
      const text = `this aced serves cluster ${cluster}, not ${wanted}`;
      throw new AcedError('UNKNOWN_CLUSTER', text, {
        hint: 'Give each cluster a socket of its own.',
      });
    }
    if (servers !== undefined) refuseOthers(servers, { database, meant: fields['servers'] });
    return fields['params'];
  }

  async #file(id: string, name: string, response: ServerResponse): Promise<void> {
    const file = await this.#spool.open(id, name);
    if (file === undefined) {
      throw new AcedError('REPORT_WRITE', `the report ${name} is not there (any more)`, {
        hint: 'Run the command again; reports wait ten minutes to be fetched.',
      });
    }
    response.writeHead(200, {
      'content-type': 'application/octet-stream',
      'content-length': file.sizeBytes,
    });
    await pipeline(file.stream, response);
    await this.#spool.fetched(id, name);
  }

  #explain(error: unknown): AcedError {
    if (this.#stopping.signal.aborted) {
      return new AcedError('CANCELLED', 'aced is stopping; the command was cancelled', {
        hint: 'Run it again once aced is back.',
        cause: error,
      });
    }
    if (error instanceof AcedError) return error;
    this.#options.log.error({ event: 'command_failed', err: error });
    return new AcedError('INTERNAL', errorMessage(error), {
      hint: "See aced's log.",
      cause: error,
    });
  }
}

/** Errors: OTHER_SERVERS, BAD_USAGE. */
function refuseOthers(
  servers: Servers,
  { database, meant }: { readonly database: string | undefined; readonly meant: unknown },
): void {
  const names = [...new Set(Object.values(servers).map((server) => server.database))];
  if (database !== undefined && !names.every((name) => name === database)) {
    throw new AcedError(
      'BAD_USAGE',
      `this aced serves database ${names.join(', ')}, not ${database}`,
      { hint: `Leave --dbname out, or start an aced with --dbname ${database}.` },
    );
  }
  if (meant === undefined) return;
  const wanted = readServers(meant);
  if (sameServers(servers, wanted)) return;
  throw new AcedError(
    'OTHER_SERVERS',
    `this aced serves ${describeServers(servers)}, but the cluster's definition here is ${describeServers(wanted)}`,
    {
      hint:
        'If the definition was changed, restart aced; if they are two clusters, give each its own name, ' +
        'ACED_SOCKET and ACED_STATE_DIR; a host must be spelled alike in both, and --dbname be given to both or neither.',
    },
  );
}

function clientGone(cause: unknown): AcedError {
  return new AcedError('CANCELLED', 'the client has gone; the command was cancelled', { cause });
}

const STATUS: Readonly<Record<string, number>> = {
  UNSUPPORTED: 404,
  BAD_USAGE: 400,
  UNKNOWN_CLUSTER: 409,
  OTHER_SERVERS: 409,
  BAD_DIFF_FILE: 413,
  BUSY: 503,
  CANCELLED: 503,
};

function refuse(response: ServerResponse, error: AcedError): void {
  if (response.headersSent) response.destroy();
  else sendJson(response, STATUS[error.code] ?? 500, errorEnd(error));
}

function sendJson(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(value)}\n`);
}

function sendEvent(response: ServerResponse, event: ProgressEvent): void {
  // A client that does not read must not make the daemon keep what it could have been told.
  if (event.type === 'progress' && response.writableNeedDrain) return;
  response.write(`${JSON.stringify(event)}\n`);
}

function sendAlive(response: ServerResponse): void {
  if (response.writableNeedDrain) return;
  response.write(`${JSON.stringify({ type: 'alive' } satisfies AliveLine)}\n`);
}

function paramsHeader(request: IncomingMessage): string {
  const header = request.headers[PARAMS_HEADER];
  return Buffer.from(typeof header === 'string' ? header : '', 'base64url').toString('utf8');
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}

function decode(path: string): string {
  try {
    return decodeURIComponent(path);
  } catch (error) {
    throw new AcedError('BAD_USAGE', 'the file name is not valid', { cause: error });
  }
}
