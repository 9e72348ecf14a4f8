import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import { request } from 'node:http';
import type { ClientRequest, IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { basename, dirname, join, normalize } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { AcedError, errorMessage } from '../base/errors.js';
import { PROTOCOL_VERSION } from '../protocol/commands.js';
import type {
  CommandEnd,
  CommandName,
  CommandParams,
  CommandResults,
  ProgressEvent,
} from '../protocol/commands.js';
import { COMMAND_ID_HEADER, PARAMS_HEADER, SILENCE_MS, errorFromEnd } from '../protocol/wire.js';
import type { Servers } from '../protocol/servers.js';
import type { AliveLine, CommandEnvelope, ErrorEnd, PingAnswer } from '../protocol/wire.js';

export interface RunOptions {
  readonly signal?: AbortSignal;
  readonly onEvent?: (event: ProgressEvent) => void;
  /** Where the reports go; sub-folders are made as needed. */
  readonly reportDir: string;
  /** table-repair: the diff file, which is sent along. */
  readonly inputPath?: string;
  readonly inputName?: string;
}

/** Whom the client means to talk to; the daemon refuses what it does not serve. */
export interface DaemonIdentity {
  readonly cluster?: string;
  readonly database?: string;
  readonly servers?: Servers;
}

export interface ConnectionOptions {
  /** Open already; for the first request. */
  readonly connected?: Socket;
  /** Default SILENCE_MS. */
  readonly silenceMs?: number;
}

/** acectl's end of the socket. Errors are the engine's own, or DAEMON_UNREACHABLE. */
export class DaemonClient {
  readonly socketPath: string;
  readonly #identity: DaemonIdentity;
  readonly #silenceMs: number;
  /** Why we ended a connection ourselves: the stream's own error only says that it ended. */
  #givenUp: AcedError | null = null;
  /** From find(): spares the first request a connection of its own. */
  #connected: Socket | undefined;

  constructor(
    socketPath: string,
    identity: DaemonIdentity = {},
    { connected, silenceMs = SILENCE_MS }: ConnectionOptions = {},
  ) {
    this.socketPath = socketPath;
    this.#identity = identity;
    this.#silenceMs = silenceMs;
    this.#connected = connected;
  }

  /**
   * Connects to the first path where somebody listens; null when there is none. Errors:
   * DAEMON_UNREACHABLE when there is one that this user may not talk to.
   */
  static async find(
    socketPaths: readonly string[],
    identify: () => DaemonIdentity = () => ({}),
  ): Promise<DaemonClient | null> {
    for (const path of socketPaths) {
      const socket = await tryConnect(path);
      if (socket === null) continue;
      try {
        return new DaemonClient(path, identify(), { connected: socket });
      } catch (error) {
        socket.destroy();
        throw error;
      }
    }
    return null;
  }

  async ping(): Promise<PingAnswer> {
    const response = await this.#send(this.#request('GET', '/v1/ping', {}), null);
    const text = await textOf(response);
    response.destroy();
    return JSON.parse(text) as PingAnswer;
  }

  /** Runs the command in the daemon and fetches the files that it made into `reportDir`. */
  async run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    options: RunOptions,
  ): Promise<CommandResults[Name]> {
    const envelope: CommandEnvelope = {
      version: PROTOCOL_VERSION,
      ...this.#identity,
      ...(options.inputName === undefined ? {} : { inputName: options.inputName }),
      params,
    };
    const path = `/v1/commands/${name}`;
    const body = JSON.stringify(envelope);
    let response: IncomingMessage;
    if (options.inputPath === undefined) {
      const length = Buffer.byteLength(body);
      const headers = { 'content-type': 'application/json', 'content-length': length };
      response = await this.#send(this.#request('POST', path, headers, options.signal), body);
    } else {
      const headers = {
        // Else a refusal would close the connection while the file is still being sent, and be lost.
        connection: 'keep-alive',
        [PARAMS_HEADER]: Buffer.from(body).toString('base64url'),
        'content-type': 'application/octet-stream',
        'content-length': await sizeOfInput(options.inputPath),
      };
      const upload = { file: options.inputPath };
      response = await this.#send(this.#request('POST', path, headers, options.signal), upload);
    }
    const end = await this.#readEnd(response, options);
    if (end.type === 'error') throw errorFromEnd(end);
    const id = response.headers[COMMAND_ID_HEADER];
    if ('files' in end.result && typeof id === 'string') {
      for (const file of end.result.files) await this.#fetch(id, file, options);
    }
    // The daemon answers a command with that command's result, by protocol version.
    return end.result as CommandResults[Name];
  }

  #request(
    method: string,
    path: string,
    headers: Readonly<Record<string, string | number>>,
    signal?: AbortSignal,
  ): ClientRequest {
    const connected = this.#connected;
    this.#connected = undefined;
    const outgoing = request({
      socketPath: this.socketPath,
      method,
      path,
      headers: { connection: 'close', ...headers },
      ...(signal === undefined ? {} : { signal }),
      // An agent would ignore the connection that there is and make its own.
      ...(connected === undefined ? { agent: false } : { createConnection: () => connected }),
    });
    outgoing.on('socket', (socket) => this.#listen(socket));
    return outgoing;
  }

  /** Ends a connection on which the daemon says nothing: it is stopped, or hangs. */
  #listen(socket: Socket): void {
    socket.setTimeout(this.#silenceMs);
    socket.on('timeout', () => {
      const { bytesRead } = socket;
      // It may be us who slept: what has come meanwhile is read before this timer.
      const timer = setTimeout(() => {
        if (socket.bytesRead !== bytesRead || socket.destroyed) return;
        const seconds = Math.round(this.#silenceMs / 1000);
        this.#givenUp = new AcedError(
          'DAEMON_UNREACHABLE',
          `aced at ${this.socketPath} has not said anything for ${seconds} s`,
          {
            hint: 'It is stopped or hangs: see systemctl status and its log, restart it; what the command was doing may be unfinished.',
          },
        );
        socket.destroy(this.#givenUp);
      }, RECHECK_MS);
      socket.once('close', () => clearTimeout(timer));
    });
  }

  /** Errors: what the daemon refused with, CANCELLED, DAEMON_UNREACHABLE. */
  async #send(
    outgoing: ClientRequest,
    body: string | { readonly file: string } | null,
  ): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      outgoing.on('response', resolve);
      outgoing.on('error', (error) => reject(this.#lost(error)));
      if (body === null || typeof body === 'string') outgoing.end(body ?? undefined);
      else {
        pipeline(createReadStream(body.file), outgoing).catch((error: unknown) =>
          reject(this.#lost(error)),
        );
      }
    });
    if (response.statusCode === 200) return response;
    const refusal = await textOf(response).catch(() => '');
    outgoing.destroy();
    throw errorFromEnd(parseRefusal(refusal, response.statusCode ?? 0));
  }

  async #readEnd(response: IncomingMessage, options: RunOptions): Promise<CommandEnd> {
    let end: CommandEnd | undefined;
    let rest = '';
    // At the end of the response it is no longer known.
    const { socket } = response;
    response.setEncoding('utf8');
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        const lines = `${rest}${chunk}`.split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          const message = JSON.parse(line) as ProgressEvent | CommandEnd | AliveLine;
          if (message.type === 'result' || message.type === 'error') end = message;
          else if (message.type !== 'alive') options.onEvent?.(message);
        }
      }
    } catch (error) {
      throw this.#lost(error, options.signal);
    } finally {
      // A connection left open would keep the process from ending: of an upload it is one to be kept.
      response.destroy();
      socket.destroy();
    }
    if (end === undefined) throw this.#lost(new Error('the answer has no end'), options.signal);
    return end;
  }

  /** Written under another name first: a half-fetched report must not pass for a whole one. */
  async #fetch(id: string, name: string, { reportDir, signal }: RunOptions): Promise<void> {
    const target = join(reportDir, insideOnly(name));
    const part = join(dirname(target), `.${basename(target)}.${process.pid}.part`);
    const path = `/v1/files/${id}/${name.split('/').map(encodeURIComponent).join('/')}`;
    const response = await this.#send(this.#request('GET', path, {}, signal), null);
    try {
      await mkdir(dirname(target), { recursive: true });
      await pipeline(response, createWriteStream(part));
      await rename(part, target);
    } catch (error) {
      await rm(part, { force: true }).catch(() => undefined);
      if (signal?.aborted === true || isConnectionLoss(error)) throw this.#lost(error, signal);
      throw new AcedError('REPORT_WRITE', `cannot write ${target}: ${errorMessage(error)}`, {
        hint: 'Make room, or run the command in a directory that you may write to.',
        cause: error,
      });
    } finally {
      response.destroy();
    }
  }

  #lost(error: unknown, signal?: AbortSignal): AcedError {
    if (this.#givenUp !== null) return this.#givenUp;
    if (error instanceof AcedError) return error;
    const isAbort = error instanceof Error && error.name === 'AbortError';
    if (isAbort || signal?.aborted === true) {
      return new AcedError('CANCELLED', 'cancelled', { cause: error });
    }
    if (error instanceof Error && 'path' in error && !('address' in error)) {
      return new AcedError('BAD_DIFF_FILE', errorMessage(error), { cause: error });
    }
    return new AcedError(
      'DAEMON_UNREACHABLE',
      `lost the connection to aced at ${this.socketPath}: ${errorMessage(error)}`,
      { hint: "See aced's log; what the command was doing may be unfinished.", cause: error },
    );
  }
}

const RECHECK_MS = 1_000;

const NOBODY = new Set(['ENOENT', 'ECONNREFUSED', 'ENOTDIR']);

/** Null: nobody listens there. */
async function tryConnect(path: string): Promise<Socket | null> {
  return new Promise((resolve, reject) => {
    const socket = connect(path);
    const onError = (error: NodeJS.ErrnoException): void => {
      if (NOBODY.has(error.code ?? '')) resolve(null);
      else reject(notForUs(path, error));
    };
    socket.once('error', onError);
    socket.once('connect', () => {
      socket.off('error', onError);
      resolve(socket);
    });
  });
}

function notForUs(path: string, error: NodeJS.ErrnoException): AcedError {
  const isForbidden = error.code === 'EACCES' || error.code === 'EPERM';
  return new AcedError('DAEMON_UNREACHABLE', `cannot talk to aced at ${path}: ${error.message}`, {
    hint: isForbidden
      ? "Run acectl as aced's user, or become a member of the socket's group."
      : 'Check that aced is well, or set ACED_SOCKET to its socket.',
    cause: error,
  });
}

/** Of a file to be uploaded, in bytes. Errors: BAD_DIFF_FILE when it cannot be read. */
export async function sizeOfInput(path: string): Promise<number> {
  try {
    const found = await stat(path);
    if (!found.isDirectory()) return found.size;
  } catch (error) {
    throw new AcedError('BAD_DIFF_FILE', `cannot read ${path}: ${errorMessage(error)}`, {
      hint: 'Give the file that a diff has written.',
      cause: error,
    });
  }
  throw new AcedError('BAD_DIFF_FILE', `cannot read ${path}: it is a directory`, {
    hint: 'Give the file that a diff has written.',
  });
}

/** The daemon's word is not enough to write outside the directory. */
function insideOnly(name: string): string {
  const normal = normalize(name);
  if (name === '' || name.includes('\0') || normal.startsWith('/') || normal.startsWith('..')) {
    throw new AcedError('REPORT_WRITE', `refused to write a report to ${JSON.stringify(name)}`);
  }
  return normal;
}

function isConnectionLoss(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ECONNRESET';
}

function parseRefusal(text: string, status: number): ErrorEnd {
  try {
    const answer = JSON.parse(text) as Partial<ErrorEnd>;
    if (typeof answer.message === 'string' && typeof answer.code === 'string') {
      return {
        type: 'error',
        code: answer.code,
        message: answer.message,
        hint: answer.hint ?? null,
      };
    }
  } catch {
    // Not an aced at the other end, or it died while it answered.
  }
  const hint = 'Check that ACED_SOCKET names the socket of an aced.';
  const message = `the daemon answered ${status} without saying why`;
  return { type: 'error', code: 'DAEMON_UNREACHABLE', message, hint };
}

async function textOf(response: IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const chunk of response as AsyncIterable<string>) text += chunk;
  return text;
}
