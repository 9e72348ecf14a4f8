import { silentLogger } from '../../src/base/log.js';
import { NO_LSN, parseLsn, type Lsn } from '../../src/base/lsn.js';
import { PgoutputDecoder } from '../../src/pgoutput/decoder.js';
import {
  openReplicationStream,
  type ReplicationStream,
  type StreamHandler,
  type StreamOptions,
} from '../../src/stream/replication-stream.js';
import type { PlainMessage } from '../pgoutput/encoder.js';
import { toPlain } from '../pgoutput/plain.js';
import type { TestServer } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';

export const PUBLICATION = 'aced_test';

/** Keeps what arrives, decoded. */
export class Recorder implements StreamHandler {
  readonly messages: PlainMessage[] = [];
  walEnd: Lsn = NO_LSN;
  readonly #decoder = new PgoutputDecoder();

  onData(buffer: Buffer, start: number, end: number): void {
    this.messages.push(toPlain(this.#decoder.decode(buffer, start, end)));
  }

  onKeepalive(walEnd: Lsn): void {
    this.walEnd = walEnd;
  }

  get commits(): Extract<PlainMessage, { kind: 'commit' }>[] {
    return this.messages.filter((message) => message.kind === 'commit');
  }

  /** First columns of the rows inserted so far. */
  get inserted(): (string | null | undefined)[] {
    return this.messages
      .filter((message) => message.kind === 'insert')
      .map((message) => message.newRow[0]);
  }

  async waitForCommits(count: number): Promise<void> {
    await waitFor(() => this.commits.length >= count, { what: `${count} commits` });
  }
}

/** A database with a table `t (id, note)`, a publication of it and a slot made after that. */
export async function prepareDatabase(server: TestServer, name: string): Promise<void> {
  await server.createDatabase(name);
  await server.query(
    name,
    `CREATE TABLE public.t (id int PRIMARY KEY, note text);
     CREATE PUBLICATION ${PUBLICATION} FOR TABLE public.t`,
  );
  await server.query(name, `SELECT pg_create_logical_replication_slot('${name}', 'pgoutput')`);
}

/** Streams the slot that is named like the database, from where it was confirmed. */
export async function openStream(
  server: TestServer,
  database: string,
  options: Partial<StreamOptions> & Pick<StreamOptions, 'handler'>,
): Promise<ReplicationStream> {
  return openReplicationStream({
    node: server.nodeConfig(database),
    slot: database,
    publication: PUBLICATION,
    startLsn: NO_LSN,
    applicationName: 'aced test',
    log: silentLogger(),
    signal: new AbortController().signal,
    ...options,
  });
}

export async function confirmedFlushLsn(server: TestServer, slot: string): Promise<Lsn> {
  const rows = await server.query(
    'postgres',
    'SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = $1',
    [slot],
  );
  return parseLsn(rows[0]?.[0] ?? '');
}

export async function waitForFreeSlot(server: TestServer, slot: string): Promise<void> {
  await waitFor(
    async () => {
      const sql = 'SELECT active FROM pg_replication_slots WHERE slot_name = $1';
      return (await server.query('postgres', sql, [slot]))[0]?.[0] === 'f';
    },
    { what: `slot ${slot} to be free` },
  );
}
