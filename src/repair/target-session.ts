import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { quoteIdentifier, quoteLiteral } from '../base/quote.js';
import type { Session } from '../postgres/session.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';

/** Marks the rows that a repair writes: `origin = none` subscriptions do not forward them. */
export const REPAIR_ORIGIN = 'aced_repair';

const ORIGIN_ATTEMPTS = 20;
const ORIGIN_RETRY_MS = 500;

/** A repair waits so long for a row that somebody has locked; its own locks are held no longer. */
const LOCK_TIMEOUT_MS = 2_000;
const STATEMENT_TIMEOUT_MS = 60_000;

export interface TargetOptions {
  readonly firesTriggers: boolean;
  readonly signal: AbortSignal;
}

/**
 * The connection that writes on one node, prepared so that what it writes stays there: a
 * replication origin of its own, or Spock's repair mode. `close` undoes it.
 */
export class TargetSession {
  readonly session: Session;
  readonly #begin: string;
  readonly #hasSpock: boolean;

  private constructor(
    session: Session,
    { hasSpock, triggerPath }: { hasSpock: boolean; triggerPath: string | null },
  ) {
    this.session = session;
    this.#hasSpock = hasSpock;
    this.#begin = [
      'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE',
      `SET LOCAL session_replication_role = ${triggerPath === null ? 'replica' : 'local'}`,
      `SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`,
      `SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}`,
      // A batch is small and the table may be large: by index, whatever the statistics say.
      'SET LOCAL enable_hashjoin = off',
      'SET LOCAL enable_mergejoin = off',
      ...(triggerPath === null
        ? []
        : [`SELECT pg_catalog.set_config('search_path', ${quoteLiteral(triggerPath)}, true)`]),
    ].join('; ');
  }

  /** Errors: MISSING_PRIVILEGE with the statements that help; QUERY_FAILED while another repairs. */
  static async open(session: Session, options: TargetOptions): Promise<TargetSession> {
    const rows = await session.query(
      "SELECT pg_catalog.to_regprocedure('spock.repair_mode(boolean)') IS NOT NULL",
    );
    const hasSpock = rows[0]?.[0] === 't';
    const triggerPath = options.firesTriggers ? await userSearchPath(session) : null;
    const target = new TargetSession(session, { hasSpock, triggerPath });
    await target.#checkReplicationRole();
    if (!hasSpock) await setUpOrigin(session, options.signal);
    // Our other sessions can only read.
    await session.query('SET default_transaction_read_only = off');
    return target;
  }

  async begin(): Promise<void> {
    await this.session.query(this.#begin);
    if (this.#hasSpock) await this.session.query('SELECT spock.repair_mode(true)');
  }

  async commit(): Promise<void> {
    if (this.#hasSpock) await this.session.query('SELECT spock.repair_mode(false)');
    await this.session.query('COMMIT');
  }

  async rollback(): Promise<void> {
    await this.session.query('ROLLBACK').catch(() => this.session.destroy());
  }

  /** Leaves the session as it was; one that cannot be reset is given up. */
  async close(dropStage: string): Promise<void> {
    if (this.session.isBroken) return;
    try {
      await this.session.query(dropStage);
      await this.session.query('RESET default_transaction_read_only');
      if (!this.#hasSpock) {
        await this.session.query('SELECT pg_catalog.pg_replication_origin_session_reset()');
      }
    } catch {
      this.session.destroy();
    }
  }

  async #checkReplicationRole(): Promise<void> {
    try {
      await this.begin();
      await this.session.query('ROLLBACK');
    } catch (error) {
      await this.rollback();
      if (!hasSqlState(error, SQLSTATE.insufficientPrivilege)) throw error;
      const { name, user } = this.session.node;
      throw new AcedError(
        'MISSING_PRIVILEGE',
        `role ${user} may not set session_replication_role on node ${name}`,
        {
          hint: `On ${name}, as a superuser: GRANT SET ON PARAMETER session_replication_role TO ${quoteIdentifier(user)};`,
          cause: error,
        },
      );
    }
  }
}

/**
 * The search path that this role's other sessions have: ours is pinned, and triggers were written
 * for theirs. Precedence: https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html
 */
async function userSearchPath(session: Session): Promise<string> {
  const rows = await session.query(
    `SELECT coalesce(
       (SELECT pg_catalog.substr(c.setting, pg_catalog.length('search_path=') + 1)
          FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c(setting)
         WHERE c.setting LIKE 'search\\_path=%'
           AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                      WHERE datname = pg_catalog.current_database()))
           AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles WHERE rolname = session_user))
         ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1),
       (SELECT boot_val FROM pg_catalog.pg_settings WHERE name = 'search_path'))`,
  );
  return rows[0]?.[0] ?? '';
}

async function setUpOrigin(session: Session, signal: AbortSignal): Promise<void> {
  try {
    await session
      .query(
        `SELECT pg_catalog.pg_replication_origin_create('${REPAIR_ORIGIN}')
          WHERE pg_catalog.pg_replication_origin_oid('${REPAIR_ORIGIN}') IS NULL`,
      )
      .catch((error: unknown) => {
        // Another repair has just created it.
        if (!hasSqlState(error, SQLSTATE.duplicateObject)) throw error;
      });
    for (let attempt = 1; ; attempt += 1) {
      try {
        await session.query(
          `SELECT pg_catalog.pg_replication_origin_session_setup('${REPAIR_ORIGIN}')`,
        );
        return;
      } catch (error) {
        // An origin has one user at a time.
        if (!hasSqlState(error, SQLSTATE.objectInUse) || attempt >= ORIGIN_ATTEMPTS) throw error;
      }
      await sleep(ORIGIN_RETRY_MS, signal);
    }
  } catch (error) {
    throw originError(error, session);
  }
}

const ORIGIN_FUNCTIONS = [
  'pg_replication_origin_oid(text)',
  'pg_replication_origin_create(text)',
  'pg_replication_origin_session_setup(text)',
  'pg_replication_origin_session_reset()',
];

function originError(error: unknown, session: Session): unknown {
  const { name, user } = session.node;
  if (hasSqlState(error, SQLSTATE.objectInUse)) {
    return new AcedError('QUERY_FAILED', `another repair is running on node ${name}`, {
      hint: 'Wait until it is done, then run this one again.',
      cause: error,
    });
  }
  if (!hasSqlState(error, SQLSTATE.insufficientPrivilege)) return error;
  const grants = ORIGIN_FUNCTIONS.map(
    (text) => `GRANT EXECUTE ON FUNCTION pg_catalog.${text} TO ${quoteIdentifier(user)};`,
  );
  return new AcedError(
    'MISSING_PRIVILEGE',
    `role ${user} may not use replication origins on node ${name}, so a repair would be replicated`,
    {
      hint: `In this database on ${name}, as a superuser: ${grants.join(' ')}`,
      cause: error,
    },
  );
}
