import { AcedError, isErrorCode } from '../base/errors.js';
import type { CommandName } from './commands.js';
import type { Servers } from './servers.js';

/** What both ends of the socket must spell alike. */

/** Body of a command without input, and (base64url) the header of one with input. */
export interface CommandEnvelope {
  readonly version: number;
  /** The client's idea of whom it talks to; refused when the daemon serves something else. */
  readonly cluster?: string;
  readonly database?: string;
  /** The servers of the cluster as the client's own files define it; absent: they do not. */
  readonly servers?: Servers;
  /** What the user calls the file that follows as the body. */
  readonly inputName?: string;
  readonly params: unknown;
}

export interface PingAnswer {
  /** PROTOCOL_VERSION of the daemon. */
  readonly protocol: number;
  /** Release of the daemon. */
  readonly version: string;
  readonly pid: number;
  readonly cluster: string | null;
}

export const PARAMS_HEADER = 'x-aced-params';
/** In the answer to a command: the id under which its files are to be had. */
export const COMMAND_ID_HEADER = 'x-aced-command';

/**
 * A line of the answer now and then, while there is nothing else to say: a daemon that is frozen sends
 * none, and its client gives up (SILENCE_MS).
 */
export interface AliveLine {
  readonly type: 'alive';
}

export const ALIVE_INTERVAL_MS = 2_000;
/** Without a byte of the daemon for so long a client gives up. */
export const SILENCE_MS = 15_000;

/** Commands whose request body is the diff file. */
export function takesInput(name: CommandName): boolean {
  return name === 'table-repair' || name === 'table-rerun';
}

export interface ErrorEnd {
  readonly type: 'error';
  readonly code: string;
  readonly message: string;
  readonly hint: string | null;
}

export function errorEnd(error: AcedError): ErrorEnd {
  return {
    type: 'error',
    code: error.code,
    message: error.message,
    hint: error.hint ?? null,
  };
}

export function errorFromEnd({ code, message, hint }: ErrorEnd): AcedError {
  return new AcedError(isErrorCode(code) ? code : 'INTERNAL', message, {
    ...(hint === null ? {} : { hint }),
  });
}
