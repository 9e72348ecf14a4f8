import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { AcedError, errorMessage } from '../base/errors.js';

/** The text that Prometheus reads, and what it is. */
export interface MetricsSource {
  readonly contentType: string;
  scrape(): Promise<string>;
}

/** Whether the daemon is alive, in a line for people, and what only another start of it would mend. */
export interface HealthSource {
  check(nowMs: number): { readonly status: string; readonly problems: readonly string[] };
}

/** What is asked by those who watch the daemon, at the unix socket and at `metrics.port`. */
export interface Observed {
  readonly metrics: MetricsSource;
  readonly health: HealthSource;
}

export interface MetricsListener {
  /** From now on there is something to answer; before, who asks is told to come again (503). */
  serve(observed: Observed): void;
  close(): Promise<void>;
}

const TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 16;

/**
 * Listens for `GET /metrics` and `GET /health`, and for nothing else. Errors: BAD_CONFIG when the port cannot
 * be had: found at the start, before anything else is begun.
 */
export async function listenForScrapes(host: string, port: number): Promise<MetricsListener> {
  let observed: Observed | null = null;
  const server = createServer((request, response) => {
    response.on('error', () => undefined);
    if (!isObserving(request)) {
      respond(response, 404, 'GET /metrics and GET /health are all there is');
    } else if (observed === null) respond(response, 503, 'aced is starting');
    else void answerObserver(request, response, observed);
  });
  server.requestTimeout = TIMEOUT_MS;
  server.headersTimeout = TIMEOUT_MS;
  server.timeout = TIMEOUT_MS;
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) => reject(cannotListen(host, port, error)));
    server.listen({ host, port }, resolve);
  });
  server.removeAllListeners('error').on('error', () => undefined);
  return {
    serve: (given) => {
      observed = given;
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Whether the request is for what answerObserver answers. */
export function isObserving(request: IncomingMessage): boolean {
  return request.method === 'GET' && ['/metrics', '/health'].includes(pathOf(request));
}

/**
 * Metrics, or health: 200 and a line that says how many streams are up, or 503 and what only another
 * start would mend; a node that is down is no such thing. Never rejects: who asked is told.
 */
export async function answerObserver(
  request: IncomingMessage,
  response: ServerResponse,
  { metrics, health }: Observed,
): Promise<void> {
  try {
    if (pathOf(request) === '/metrics') {
      const text = await metrics.scrape();
      response.writeHead(200, { 'content-type': metrics.contentType });
      response.end(text);
      return;
    }
    const { status, problems } = health.check(performance.now());
    if (problems.length === 0) respond(response, 200, status);
    else respond(response, 503, problems.join('; '));
  } catch (error) {
    respond(response, 500, errorMessage(error));
  }
}

function pathOf({ url = '' }: IncomingMessage): string {
  return url.split('?')[0] ?? '';
}

function respond(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8' });
  response.end(`${text}\n`);
}

function cannotListen(host: string, port: number, error: Error): AcedError {
  return new AcedError(
    'BAD_CONFIG',
    `metrics.port: cannot listen on ${host}:${port}: ${errorMessage(error)}`,
    {
      hint: 'Stop what listens there, or set metrics.port and metrics.host (ACED_METRICS_PORT, ACED_METRICS_HOST) to others.',
      cause: error,
    },
  );
}
