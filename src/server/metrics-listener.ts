import { createServer, type ServerResponse } from 'node:http';
import { AcedError, errorMessage } from '../base/errors.js';

/** The text that Prometheus reads, and what it is. */
export interface MetricsSource {
  readonly contentType: string;
  scrape(): Promise<string>;
}

export interface MetricsListener {
  /** From now on there is something to answer; before, scrapes are told to come again (503). */
  serve(source: MetricsSource): void;
  close(): Promise<void>;
}

const TIMEOUT_MS = 10_000;
const MAX_CONNECTIONS = 16;

/**
 * Listens for `GET /metrics`, and for nothing else. Errors: BAD_CONFIG when the port cannot be had: found
 * at the start, before anything else is begun.
 */
export async function listenForScrapes(host: string, port: number): Promise<MetricsListener> {
  let source: MetricsSource | null = null;
  const server = createServer((request, response) => {
    response.on('error', () => undefined);
    if (request.method !== 'GET' || request.url?.split('?')[0] !== '/metrics') {
      respond(response, 404, 'GET /metrics is all there is');
    } else if (source === null) respond(response, 503, 'aced is starting');
    else void sendMetrics(response, source);
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
      source = given;
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Never rejects: who asked is told. */
export async function sendMetrics(response: ServerResponse, source: MetricsSource): Promise<void> {
  try {
    const text = await source.scrape();
    response.writeHead(200, { 'content-type': source.contentType });
    response.end(text);
  } catch (error) {
    respond(response, 500, errorMessage(error));
  }
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
      hint: 'stop what listens there, or set metrics.port and metrics.host (ACED_METRICS_PORT, ACED_METRICS_HOST) to others',
      cause: error,
    },
  );
}
