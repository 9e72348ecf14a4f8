import { steadyNowMs } from '../base/clock.js';
import { AcedError, errorMessage } from '../base/errors.js';
import { parseLsn, type Lsn } from '../base/lsn.js';
import { quoteIdentifier } from '../base/quote.js';
import { sleep } from '../base/abort.js';
import { waitForHalfCommitted } from './half-committed.js';
import { describeTransactions, readRunning } from './running-transactions.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import { serverHint } from '../postgres/connect-error.js';
import type { Session } from '../postgres/session.js';
import { inTransaction } from '../postgres/transaction.js';

/** Our own walsender may need a moment to notice that its client has gone. */
export const SLOT_RELEASE_TIMEOUT_MS = 10_000;

/** pg_replication_slots, for one logical slot. */
export interface SlotInfo {
  readonly plugin: string;
  readonly database: string;
  readonly active: boolean;
  readonly activePid: number | null;
  readonly restartLsn: Lsn | null;
  readonly confirmedFlushLsn: Lsn | null;
  /** reserved, extended, unreserved or lost. */
  readonly walStatus: string | null;
  /** WAL bytes that may still be written before the slot is lost; null: no limit. */
  readonly safeWalSize: bigint | null;
  /** Why it was invalidated; null also before PostgreSQL 17. */
  readonly invalidationReason: string | null;
  /** WAL bytes that the slot holds back. */
  readonly retainedBytes: bigint;
}

export async function readSlot(session: Session, slot: string): Promise<SlotInfo | null> {
  const rows = await session.query(
    `SELECT s.plugin, s.database, s.active, s.active_pid::text, s.restart_lsn::text,
            s.confirmed_flush_lsn::text, s.wal_status, s.safe_wal_size::text,
            pg_catalog.to_jsonb(s) ->> 'invalidation_reason',
            pg_catalog.pg_wal_lsn_diff(
              pg_catalog.pg_current_wal_lsn(), s.restart_lsn)::int8::text
       FROM pg_catalog.pg_replication_slots s
      WHERE s.slot_name = $1::name AND s.slot_type = 'logical'`,
    [slot],
  );
  const row = rows[0];
  if (row === undefined) return null;
  const [plugin, database, active, pid, restart, confirmed, walStatus, safe, reason, retained] =
    row;
  return {
    plugin: plugin ?? '',
    database: database ?? '',
    active: active === 't',
    activePid: typeof pid === 'string' ? Number(pid) : null,
    restartLsn: typeof restart === 'string' ? parseLsn(restart) : null,
    confirmedFlushLsn: typeof confirmed === 'string' ? parseLsn(confirmed) : null,
    walStatus: walStatus ?? null,
    safeWalSize: typeof safe === 'string' ? BigInt(safe) : null,
    invalidationReason: reason ?? null,
    retainedBytes: typeof retained === 'string' ? BigInt(retained) : 0n,
  };
}

/** A slot of the same name may be somebody else's: it is neither read nor dropped. */
const IS_OURS = "s.plugin = 'pgoutput' AND s.database = pg_catalog.current_database()";

/** Errors: SLOT_FOREIGN when the name belongs to a slot that cannot be ours. */
export async function requireOurSlot(session: Session, slot: string): Promise<void> {
  const rows = await session.query(
    `SELECT s.slot_type, s.plugin, s.database FROM pg_catalog.pg_replication_slots s
      WHERE s.slot_name = $1::name AND (${IS_OURS}) IS NOT TRUE`,
    [slot],
  );
  const [foreign] = rows;
  if (foreign === undefined) return;
  const [type, plugin, database] = foreign;
  const whose =
    type === 'physical' ? 'physical' : `of plugin ${plugin ?? '?'} in database ${database ?? '?'}`;
  const isOfOtherDatabase = plugin === 'pgoutput' && database !== session.node.database;
  const unneeded = `If nobody needs it: SELECT pg_drop_replication_slot('${slot}'); or give the cluster another name, which is the slot's too.`;
  throw new AcedError(
    'SLOT_FOREIGN',
    `node ${session.node.name} has a replication slot ${slot} that is not ours: it is ${whose}`,
    {
      hint: isOfOtherDatabase
        ? `Of two nodes on one server only one can have trees: if ${database ?? ''} is another node of this cluster, compare them with table-diff. ${unneeded}`
        : unneeded,
    },
  );
}

/** The slot can never stream again: its WAL is gone or it was invalidated. */
export function isSlotLost(
  slot: Pick<SlotInfo, 'walStatus' | 'invalidationReason' | 'confirmedFlushLsn'>,
): boolean {
  return (
    slot.walStatus === 'lost' || slot.invalidationReason !== null || slot.confirmedFlushLsn === null
  );
}

export interface CreateSlotOptions {
  readonly signal?: AbortSignal;
  /** The server waits for every transaction that runs when a slot is created. */
  readonly lockTimeoutMs: number;
  /** Goes with the session. Default: it stays. */
  readonly isTemporary?: boolean;
  readonly onWait?: (description: string) => void;
}

/**
 * Creates a pgoutput slot and returns the position that it starts from: every commit that
 * is not visible once this returns will be streamed. Errors: WAL_LEVEL, NO_FREE_SLOT,
 * MISSING_PRIVILEGE, SLOT_BUSY (the name is taken), TIMEOUT, CANCELLED.
 */
export async function createSlot(
  session: Session,
  slot: string,
  options: CreateSlotOptions,
): Promise<Lsn> {
  await requireLogicalWal(session);
  const running = await describeRunning(session);
  if (running !== null) options.onWait?.(running);
  let lsn: Lsn;
  try {
    const settings = {
      lock_timeout: `${Math.max(1, Math.ceil(options.lockTimeoutMs))}ms`,
      // The wait has its own limit; the role's or the database's is made for other statements.
      statement_timeout: '0',
    };
    const rows = await inTransaction(session, settings, () =>
      session.query(
        "SELECT lsn::text FROM pg_catalog.pg_create_logical_replication_slot($1, 'pgoutput', $2)",
        [slot, String(options.isTemporary === true)],
        options.signal,
      ),
    );
    lsn = parseLsn(rows[0]?.[0] ?? '');
  } catch (error) {
    if (hasSqlState(error, SQLSTATE.lockNotAvailable)) {
      const names = (await describeRunning(session)) ?? 'a transaction that has ended just now';
      throw new AcedError(
        'TIMEOUT',
        `creating a replication slot on node ${session.node.name} has to wait for all open ` +
          `transactions; still open after ${options.lockTimeoutMs} ms: ${names}`,
        { hint: 'End these transactions, or try again when they have ended.', cause: error },
      );
    }
    throw await slotError(error, session, slot);
  }
  try {
    await waitForHalfCommitted(session, { ...options, timeoutMs: options.lockTimeoutMs });
  } catch (error) {
    // A slot that nobody knows of would hold back the write-ahead log for ever.
    await dropSlot(session, slot).catch(() => undefined);
    throw error;
  }
  return lsn;
}

export interface DropSlotOptions {
  readonly signal?: AbortSignal;
  /** How long to wait for a process that streams from it, e.g. one that is just ending. Default 0. */
  readonly waitMs?: number;
}

const DROP_RETRY_MS = 20;

/** Errors: SLOT_BUSY while a process streams from it. */
export async function dropSlot(
  session: Session,
  slot: string,
  { signal, waitMs = 0 }: DropSlotOptions = {},
): Promise<'dropped' | 'absent'> {
  const deadline = steadyNowMs() + waitMs;
  for (;;) {
    try {
      const rows = await session.query(
        `SELECT pg_catalog.pg_drop_replication_slot(s.slot_name)
           FROM pg_catalog.pg_replication_slots s
          WHERE s.slot_name = $1::name AND ${IS_OURS}`,
        [slot],
        signal,
      );
      return rows.length === 0 ? 'absent' : 'dropped';
    } catch (error) {
      if (hasSqlState(error, SQLSTATE.undefinedObject)) return 'absent';
      if (!hasSqlState(error, SQLSTATE.objectInUse)) throw await slotError(error, session, slot);
      if (steadyNowMs() >= deadline) throw slotInUse(error, session, slot);
    }
    await sleep(DROP_RETRY_MS, signal);
  }
}

function slotInUse(error: unknown, session: Session, slot: string): AcedError {
  return new AcedError(
    'SLOT_BUSY',
    `replication slot ${slot} on node ${session.node.name} is in use`,
    { hint: 'Stop the process that streams from it first.', cause: error },
  );
}

export interface SystemIdentity {
  /** Decimal, as pg_controldata prints it. */
  readonly systemId: string;
  readonly timeline: number;
  /**
   * Which run of the server this is. A crash of any process of it begins another one within the same
   * postmaster, and loses commits that nobody had flushed; only that statistics began anew tells.
   */
  readonly serverStart: string;
  readonly insertLsn: Lsn;
}

/**
 * Which history of which database system this is; needs no privilege. The timeline is read off the
 * current WAL file's name since the control file only learns of it at a checkpoint.
 * Errors: UNSUPPORTED on a standby.
 */
export async function identifySystem(session: Session): Promise<SystemIdentity> {
  const rows = await session.query(
    `SELECT pg_catalog.pg_is_in_recovery(),
            pg_catalog.concat_ws(' ', pg_catalog.pg_postmaster_start_time(),
              (SELECT stats_reset FROM pg_catalog.pg_stat_archiver)),
            (SELECT system_identifier::text FROM pg_catalog.pg_control_system())`,
  );
  const [isStandby, serverStart, systemId] = rows[0] ?? [];
  if (isStandby === 't') {
    throw new AcedError('UNSUPPORTED', `node ${session.node.name} is a standby in recovery`, {
      hint: 'Point the node at the primary.',
    });
  }
  const positions = await session.query(
    `SELECT lsn::text, pg_catalog.pg_walfile_name(lsn)
       FROM pg_catalog.pg_current_wal_insert_lsn() AS lsn`,
  );
  const [insertLsn, walFile] = positions[0] ?? [];
  return {
    systemId: systemId ?? '',
    serverStart: serverStart ?? '',
    timeline: Number.parseInt((walFile ?? '').slice(0, 8), 16),
    insertLsn: parseLsn(insertLsn ?? ''),
  };
}

async function requireLogicalWal(session: Session): Promise<void> {
  const rows = await session.query(
    `SELECT pg_catalog.current_setting('wal_level'),
            pg_catalog.current_setting('effective_wal_level', true) IS NOT NULL`,
  );
  const [level, followsSlots] = rows[0] ?? [];
  // From 19 on the first slot switches logical decoding on, unless the log is minimal.
  if (level === 'logical' || (followsSlots === 't' && level !== 'minimal')) return;
  throw new AcedError('WAL_LEVEL', `wal_level is ${level} on node ${session.node.name}`, {
    hint: 'Set wal_level = logical in postgresql.conf and restart the server.',
  });
}

/** A slot waits for the transactions of all databases. */
async function describeRunning(session: Session): Promise<string | null> {
  const running = await readRunning(session, { scope: 'server' });
  return running.length === 0 ? null : describeTransactions(running);
}

/** The server's reasons are several, and new releases have new ones: its own words come first. */
async function refusedSlot(error: unknown, session: Session): Promise<AcedError> {
  const { node } = session;
  const message = `role ${node.user} may not use replication slots on node ${node.name}: ${serverText(error)}`;
  const rows = await session
    .query(
      'SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user',
    )
    .catch(() => []);
  const lacksAttribute = rows[0]?.[0] === 'f';
  const hint = lacksAttribute
    ? `ALTER ROLE ${quoteIdentifier(node.user)} REPLICATION`
    : serverHint(error);
  return new AcedError('MISSING_PRIVILEGE', message, {
    ...(hint === undefined ? {} : { hint }),
    cause: error,
  });
}

function serverText(error: unknown): string {
  const cause = error instanceof AcedError ? error.cause : error;
  return errorMessage(cause ?? error);
}

async function slotError(error: unknown, session: Session, slot: string): Promise<unknown> {
  const where = `on node ${session.node.name}`;
  if (hasSqlState(error, SQLSTATE.insufficientPrivilege)) return refusedSlot(error, session);
  if (hasSqlState(error, SQLSTATE.configurationLimitExceeded)) {
    return new AcedError('NO_FREE_SLOT', `all replication slots are in use ${where}`, {
      hint: 'Raise max_replication_slots, or drop a slot that nobody needs.',
      cause: error,
    });
  }
  if (hasSqlState(error, SQLSTATE.duplicateObject)) {
    await requireOurSlot(session, slot);
    return new AcedError('SLOT_BUSY', `replication slot ${slot} exists already ${where}`, {
      hint: 'Another aced may be using this cluster.',
      cause: error,
    });
  }
  return error;
}
