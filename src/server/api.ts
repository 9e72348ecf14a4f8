import type { IncomingMessage, ServerResponse } from 'node:http';
import { AcedError, errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import { isRoute, readApiRequest, type ApiOf } from './api-requests.js';
import type { ApiTasks, Asker } from './api-tasks.js';
import { parseJson, readText } from './request-body.js';

export interface ApiOptions {
  readonly tasks: ApiTasks;
  readonly of: ApiOf;
  readonly log: Logger;
}

const PREFIX = '/api/v1/';
const MAX_BODY_BYTES = 256 * 1024;

/** Whether a request is for ACE's routes. */
export function isApiPath(path: string): boolean {
  return path.startsWith(PREFIX);
}

/**
 * ACE's HTTP routes, as its `docs/http-api.md` has them: a POST answers with the id of a task, which is
 * asked about with GET. The same over the socket and over TLS.
 */
export class Api {
  readonly #options: ApiOptions;

  constructor(options: ApiOptions) {
    this.#options = options;
  }

  /** Never rejects. */
  async handle(request: IncomingMessage, response: ServerResponse, asker: Asker): Promise<void> {
    try {
      await this.#route(request, response, asker);
    } catch (error) {
      if (!(error instanceof AcedError))
        this.#options.log.error({ event: 'api_failed', err: error });
      refuseApi(response, error);
      // The rest of a body is thrown away, so that its sender reads the answer.
      request.resume();
    }
  }

  async #route(request: IncomingMessage, response: ServerResponse, asker: Asker): Promise<void> {
    const path = (request.url ?? '').split('?')[0] ?? '';
    const name = path.slice(PREFIX.length);
    const isTask = name.startsWith('tasks/');
    if (!isApiPath(path) || !(isTask || isRoute(name))) {
      answerApi(response, 404, { error: `there is no ${path}` });
      return;
    }
    const method = isTask ? 'GET' : 'POST';
    if (request.method !== method) {
      response.setHeader('allow', method);
      answerApi(response, 405, { error: `${path} takes ${method} alone` });
      return;
    }
    const { tasks, of } = this.#options;
    if (isTask) {
      const id = name.slice('tasks/'.length);
      const status = tasks.status(id);
      if (status === null) answerApi(response, 404, { error: `there is no task ${id}` });
      else answerApi(response, 200, status);
      return;
    }
    // A page of another site can have a browser send any other type, with the certificate that it has.
    if (!/^application\/json *(;|$)/i.test(request.headers['content-type'] ?? '')) {
      throw new AcedError('BAD_USAGE', 'content-type must be application/json');
    }
    const body = parseJson(await readText(request, MAX_BODY_BYTES));
    const id = tasks.submit(readApiRequest(name, body, of), asker);
    answerApi(response, 202, { task_id: id, status: 'QUEUED' });
  }
}

/** What is no fault of the request. */
const STATUS: Readonly<Record<string, number>> = { BUSY: 503, INTERNAL: 500 };

/** ACE's form of an error, with the code and the remedy that `acectl` would tell. */
export function refuseApi(response: ServerResponse, error: unknown): void {
  const known = error instanceof AcedError ? error : new AcedError('INTERNAL', errorMessage(error));
  const { code, message, hint } = known;
  const status = STATUS[code] ?? 400;
  answerApi(response, status, { error: message, code, ...(hint === undefined ? {} : { hint }) });
}

export function answerApi(response: ServerResponse, status: number, answer: object): void {
  if (response.headersSent || response.destroyed) return;
  response.writeHead(status, { 'content-type': 'application/json' });
  response.end(`${JSON.stringify(answer)}\n`);
}
