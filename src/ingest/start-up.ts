import { AcedError } from '../base/errors.js';
import { failpoint } from '../base/failpoint.js';
import type { Logger } from '../base/log.js';
import { formatLsn, type Lsn } from '../base/lsn.js';
import type { Config } from '../config/config.js';
import type { Reign } from '../lease/lease.js';
import { putLeader } from '../mirror/leader.js';
import { endOwnSession } from '../postgres/own-session.js';
import {
  addTableToPublication,
  ensurePublication,
  publicationTables,
} from '../replication/publication.js';
import { synchronousNames } from '../replication/synchronous.js';
import type { Session } from '../postgres/session.js';
import type { SessionPool } from '../postgres/session-pool.js';
import { requirePrimary } from '../replication/primary.js';
import { decideFailover, type SlotFailover } from '../replication/failover.js';
import {
  createSlot,
  dropSlot,
  identifySystem,
  readSlot,
  requireOurSlot,
  type SystemIdentity,
} from '../replication/slot.js';
import { decideStart, type LastTransaction } from '../replication/start-decision.js';
import { isSuperuser, SUPERUSER_WARNING } from '../postgres/superuser.js';
import type { TableName } from '../table/table-name.js';
import type { Store } from '../store/store.js';

export interface StartUpOptions {
  readonly config: Config;
  readonly node: string;
  readonly pool: SessionPool;
  readonly store: Store;
  /** See PipelineOptions. */
  readonly reign: Reign | null;
  readonly tables: readonly TableName[];
  /** Of the replication connection. */
  readonly applicationName: string;
  readonly log: Logger;
  readonly signal: AbortSignal;
  /** Like the attempts before: not worth a line in the log. */
  readonly isQuiet: boolean;
  /** The first start of this process that comes so far. */
  readonly isFirst: boolean;
  /** See decideStart. */
  readonly distrust: string | null;
}

export interface Start {
  /** Where the server is to send from. */
  readonly from: Lsn;
  /** Where the leaves stand. */
  readonly position: Lsn;
  /** The server must first send this transaction once more: it is in the leaves already. */
  readonly proof: LastTransaction | null;
  /** Snapshots that blocks were read in may be of another server than this one. */
  readonly isOtherRun: boolean;
  /** Why nothing known of this node's leaves holds any more; null: they continue at position. */
  readonly gap: string | null;
  /** synchronous_standby_names, where commits on the node may wait for us. */
  readonly synchronousNames: string | null;
  readonly failover: SlotFailover;
}

/** Waiting for running transactions, when a slot is made or a table is published. */
const RUNNING_TRANSACTIONS_TIMEOUT_MS = 600_000;

/**
 * Makes publication and slot fit to stream from, and decides where from. The position is in the
 * store when this returns. Errors: SLOT_BUSY while somebody else streams, and those of createSlot.
 */
export async function prepareStart(options: StartUpOptions): Promise<Start> {
  return options.pool.use(async (session) => {
    const start = await prepare(session, options);
    if (options.isFirst && (await isSuperuser(session))) {
      options.log.warn({ event: 'superuser_role' }, SUPERUSER_WARNING);
    }
    const names = await synchronousNames(session, options.applicationName);
    const { slotName, stream } = options.config;
    const failover = await decideFailover(session, slotName, stream.failoverSlot);
    return { ...start, synchronousNames: names, failover };
  }, options.signal);
}

type PreparedStart = Omit<Start, 'synchronousNames' | 'failover'>;

async function prepare(session: Session, options: StartUpOptions): Promise<PreparedStart> {
  const { config, store, node, log, reign } = options;
  await requirePrimary(session);
  if (reign !== null) {
    reign.require();
    await putLeader(session, { schema: config.nodeSchema, cluster: config.cluster, reign });
  }
  // The publication is committed before the slot exists: the slot's past never lacks it.
  await ensurePublication(session, config.publicationName);
  const missing = await publishMissing(session, options);
  const server = await identifySystem(session);
  await requireOurSlot(session, config.slotName);
  const slot = await readSlot(session, config.slotName);
  const local = store.node(node);
  const { distrust } = options;
  const decision = decideStart({ slot, local, server, distrust });
  log[options.isQuiet ? 'debug' : 'info'](
    { event: 'start_decision', decision: decision.kind },
    decision.reason,
  );
  switch (decision.kind) {
    case 'wait':
      // Whoever streams has no right to it any more: one that is stopped, or out of reach.
      if (reign !== null && (await endOwnSession(session, decision.pid))) {
        log.info({ event: 'slot_freed', pid: decision.pid }, 'ended the session of another aced');
      }
      throw new AcedError('SLOT_BUSY', `node ${node}: ${decision.reason}`, {
        hint: 'Is another aced running for this cluster? The slot frees itself when its session ends.',
      });
    case 'stream': {
      const { from, position, proof } = decision;
      if (missing !== null) return startOver(options, server, from, missing);
      const isOtherRun = local?.serverStart !== server.serverStart || position !== local.position;
      if (isOtherRun) store.distrustSnapshots(node, server.serverStart);
      return { from, position, proof, isOtherRun, gap: null };
    }
    case 'rebuild':
      return startOver(options, server, decision.from, decision.reason);
    case 'create':
    case 'recreate': {
      // The position goes first: after a crash in between there is no slot and no position.
      store.forgetNode(node);
      if (decision.kind === 'recreate' && decision.dropFirst) {
        await dropSlot(session, config.slotName, { signal: options.signal });
      }
      failpoint('publication-ready');
      const position = await createSlot(session, config.slotName, {
        signal: options.signal,
        lockTimeoutMs: RUNNING_TRANSACTIONS_TIMEOUT_MS,
        onWait: (description) => log.warn({ event: 'slot_waits' }, description),
      });
      failpoint('slot-created');
      log.info({ event: 'slot_created', lsn: formatLsn(position) }, config.slotName);
      return startOver(options, server, position, decision.reason);
    }
  }
}

function startOver(
  options: StartUpOptions,
  server: SystemIdentity,
  position: Lsn,
  gap: string,
): PreparedStart {
  options.store.forgetNode(options.node);
  options.store.saveNode(options.node, {
    systemId: server.systemId,
    timeline: server.timeline,
    serverStart: server.serverStart,
    position,
    last: { endLsn: position, commit: null },
  });
  return { from: position, position, proof: null, isOtherRun: false, gap };
}

/** Somebody may have taken a tracked table out of the publication; its changes since are lost. */
async function publishMissing(session: Session, options: StartUpOptions): Promise<string | null> {
  const { config, tables, signal, log } = options;
  const published = await publicationTables(session, config.publicationName);
  const isPublished = (table: TableName): boolean =>
    published.some((one) => one.schema === table.schema && one.name === table.name);
  const missing = tables.filter((table) => !isPublished(table));
  let gap: string | null = null;
  for (const { schema, name } of missing) {
    try {
      await addTableToPublication(session, config.publicationName, schema, name, {
        signal,
        timeoutMs: RUNNING_TRANSACTIONS_TIMEOUT_MS,
        onWait: (description) => log.warn({ event: 'publication_waits' }, description),
      });
      gap = `table ${schema}.${name} was no longer in publication ${config.publicationName}`;
    } catch (error) {
      const isGone =
        error instanceof AcedError &&
        (error.code === 'NO_SUCH_TABLE' || error.code === 'UNSUPPORTED');
      if (!isGone) throw error;
      // One table must not keep the others from being followed; commands on it say what is wrong.
      log.warn({ event: 'table_not_followed', table: `${schema}.${name}` }, error.logMessage);
    }
  }
  return gap;
}
