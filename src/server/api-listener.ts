import { constants, X509Certificate } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import { createSecureContext, TLSSocket, type SecureContextOptions } from 'node:tls';
import { AcedError, errorMessage } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Config } from '../config/config.js';
import { answerApi, type Api } from './api.js';

export interface ApiListener {
  /** From now on there is something to answer; before, requests are told to come again (503). */
  serve(api: Api): void;
  /** Reads the files again: new connections get what stands there now, unless that is not well. */
  reload(): void;
  close(): Promise<void>;
}

/** Headers, a body, an answer: none of them is long in coming. */
const TIMEOUT_MS = 10_000;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_CONNECTIONS = 64;

/**
 * Listens for ACE's routes over TLS: 1.2 or newer, and only for clients whose certificate one of the
 * given authorities has signed. Null: no port is asked for. Errors: BAD_CONFIG, found at the start,
 * before anything else is begun.
 */
export async function listenForApi(api: Config['api'], log: Logger): Promise<ApiListener | null> {
  const { port, host, allowedNames } = api;
  if (port === null) return null;
  if (allowedNames.length === 0) {
    throw misconfigured('api.port is set, and api.allowed_names is not', {
      hint: "Name the common names of the clients' certificates that may ask, or * for any that api.client_ca_file has signed.",
    });
  }
  let served: Api | null = null;
  const server = createServer(
    {
      ...readTls(api),
      handshakeTimeout: TIMEOUT_MS,
      requestCert: true,
      rejectUnauthorized: true,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
    (request, response) => {
      response.on('error', () => undefined);
      request.on('error', () => undefined);
      const name = commonNameOf(request);
      if (name === null || !(allowedNames.includes('*') || allowedNames.includes(name))) {
        log.warn({ event: 'api_refused', certificate: name });
        request.resume();
        answerApi(response, 401, { error: 'this client certificate may not ask here' });
      } else if (served === null) {
        request.resume();
        answerApi(response, 503, { error: 'aced is starting' });
      } else void served.handle(request, response, { peerUid: null, certificate: name });
    },
  );
  server.requestTimeout = TIMEOUT_MS;
  server.headersTimeout = TIMEOUT_MS;
  server.timeout = TIMEOUT_MS;
  server.maxConnections = MAX_CONNECTIONS;
  server.on('tlsClientError', (error, socket) => {
    log.debug({ event: 'api_handshake_failed', from: socket.remoteAddress }, error.message);
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(
        misconfigured(`api.port: cannot listen on ${host}:${port}: ${errorMessage(error)}`, {
          hint: 'Stop what listens there, or set api.port and api.host (ACED_API_PORT, ACED_API_HOST) to others.',
          cause: error,
        }),
      ),
    );
    server.listen({ host, port }, resolve);
  });
  server.removeAllListeners('error').on('error', () => undefined);
  return {
    serve: (given) => {
      served = given;
    },
    reload: () => {
      try {
        server.setSecureContext(readTls(api));
        log.info({ event: 'api_files_read' });
      } catch (error) {
        log.error({ event: 'api_files_refused' }, errorMessage(error));
      }
    },
    close: async () => {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** Null: it has none, or several, of which nothing says which one counts. */
function commonNameOf({ socket }: IncomingMessage): string | null {
  if (!(socket instanceof TLSSocket)) return null;
  // What it is declared to be is not always there.
  const certificate: { readonly subject?: { readonly CN?: unknown } } = socket.getPeerCertificate();
  const name = certificate.subject?.CN;
  return typeof name === 'string' && name !== '' ? name : null;
}

/** Errors: BAD_CONFIG, naming the option and the file. */
function readTls(api: Config['api']): SecureContextOptions {
  const cert = readOption('api.tls_cert_file', api.certFile);
  const ca = readOption('api.client_ca_file', api.clientCaFile);
  if (api.keyFile !== null) refuseOpenKey(api.keyFile);
  const key = readOption('api.tls_key_file', api.keyFile);
  const crl =
    api.clientCrlFile === null ? null : readOption('api.client_crl_file', api.clientCrlFile);
  requireCertificate('api.tls_cert_file', api.certFile, cert);
  requireCertificate('api.client_ca_file', api.clientCaFile, ca);
  const options: SecureContextOptions = {
    ...{ cert, key, ca, ...(crl === null ? {} : { crl }) },
    minVersion: 'TLSv1.2',
    // Every connection shows its certificate: a session that is taken up again could outlive a revocation.
    secureOptions: constants.SSL_OP_NO_TICKET,
  };
  try {
    createSecureContext(options);
  } catch (error) {
    const files = [api.certFile, api.keyFile, api.clientCaFile, api.clientCrlFile];
    const named = files.filter((file) => file !== null).join(', ');
    throw misconfigured(`TLS cannot be had from ${named}: ${errorMessage(error)}`, {
      hint: 'Give the private key of the certificate in api.tls_cert_file as api.tls_key_file, without a passphrase; all files are PEM.',
      cause: error,
    });
  }
  return options;
}

function readOption(option: string, path: string | null): string {
  if (path === null) {
    throw misconfigured(`api.port is set, and ${option} is not`, {
      hint: 'Set api.tls_cert_file, api.tls_key_file and api.client_ca_file, or leave api.port out.',
    });
  }
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw misconfigured(`${option}: cannot read ${path}: ${errorMessage(error)}`, {
      hint: 'Give a file that the user aced runs as may read.',
      cause: error,
    });
  }
}

/** As libpq has it: nobody else may read it, or root's group if it is root's. */
function refuseOpenKey(path: string): void {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat === undefined) return;
  const open = stat.uid === 0 && process.getuid?.() !== 0 ? 0o037 : 0o077;
  if ((stat.mode & open) === 0) return;
  const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
  throw misconfigured(`api.tls_key_file: others may read ${path} (mode ${mode})`, {
    hint: `Run: chmod 600 ${path}`,
  });
}

function requireCertificate(option: string, path: string | null, pem: string): void {
  try {
    new X509Certificate(pem);
  } catch (error) {
    throw misconfigured(`${option}: ${path ?? ''} is not a certificate: ${errorMessage(error)}`, {
      hint: 'Give a file in PEM form, as it begins with -----BEGIN CERTIFICATE-----.',
      cause: error,
    });
  }
}

function misconfigured(
  message: string,
  more: { readonly hint: string; readonly cause?: unknown },
): AcedError {
  return new AcedError('BAD_CONFIG', message, more);
}
