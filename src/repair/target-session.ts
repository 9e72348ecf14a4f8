import { sleep } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { quoteIdentifier, quoteLiteral } from '../base/quote.js';
import { holdLeaderSql, orDeposed, putLeader, type LeaderKey } from '../mirror/leader.js';
import { Session } from '../postgres/session.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import type { Arbiters } from './repair-sql.js';
import {
  countsWrites,
  readCascades,
  readLooseConstraints,
  type Cascade,
  type LooseConstraint,
} from './table-constraints.js';

/** Marks the rows that a repair writes: `origin = none` subscriptions do not forward them. */
export const REPAIR_ORIGIN = 'aced_repair';

const ORIGIN_ATTEMPTS = 20;
const ORIGIN_RETRY_MS = 500;

/**
 * A repair gives way: it never waits as long as PostgreSQL lets pass before it looks for a deadlock
 * (deadlock_timeout, 1 s), so that somebody else's transaction is never the one that is ended.
 */
const LOCK_TIMEOUT_MS = 100;
const STATEMENT_TIMEOUT_MS = 60_000;

/** PostgreSQL wants some position of the origin; ours has none. */
const ORIGIN_POSITION = '0/1';

export interface TargetOptions {
  readonly firesTriggers: boolean;
  readonly tableOid: number;
  /** Of the active one of several aced: only it may commit; null or absent: there is one. */
  readonly leader?: LeaderKey | null;
  readonly signal: AbortSignal;
}

interface TargetFacts {
  /** There is a Spock whose repair mode keeps the writes from being replicated. */
  readonly hasSpock: boolean;
  /** The role that writes when it is another than the session's: the table's owner. */
  readonly writer: string | null;
  readonly searchPath: string;
  /** A delete fires triggers, those of foreign keys too, which may delete rows of other tables. */
  readonly deletesCascade: boolean;
  readonly arbiters: Arbiters;
  /** Empty where the server enforces all of them. */
  readonly looseConstraints: readonly LooseConstraint[];
  /** What a delete or an update here also writes; empty where foreign keys do not act. */
  readonly cascades: readonly Cascade[];
}

interface TableFacts extends Pick<TargetFacts, 'writer' | 'arbiters'> {
  readonly hasFiringTriggers: boolean;
  /** Names of the rules that a repair's statements would be rewritten by. */
  readonly firingRules: string | null;
}

/**
 * The connection that writes on one node, prepared so that what it writes stays there: a
 * replication origin of its own, and Spock's repair mode where there is one. `close` undoes it.
 */
export class TargetSession {
  readonly session: Session;
  readonly facts: TargetFacts;
  readonly #settings: string;
  readonly #leader: LeaderKey | null;

  private constructor(
    session: Session,
    facts: TargetFacts,
    { firesTriggers, leader = null }: TargetOptions,
  ) {
    this.session = session;
    this.facts = facts;
    this.#leader = leader;
    this.#settings = [
      'BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE',
      `SET LOCAL session_replication_role = ${firesTriggers ? 'local' : 'replica'}`,
      // Rows of one transaction may need each other.
      'SET CONSTRAINTS ALL DEFERRED',
      `SET LOCAL lock_timeout = ${LOCK_TIMEOUT_MS}`,
      `SET LOCAL statement_timeout = ${STATEMENT_TIMEOUT_MS}`,
      ...(session.serverVersion >= 170_000 ? ['SET LOCAL transaction_timeout = 0'] : []),
      // A batch is small and the table may be large: by index, whatever the statistics say.
      'SET LOCAL enable_hashjoin = off',
      'SET LOCAL enable_mergejoin = off',
      // The functions of checks, triggers and generated columns were written for the path of the
      // role's other sessions. Ours comes first: no object there can pass for one of the server's.
      `SELECT pg_catalog.set_config('search_path', ${quoteLiteral(`pg_catalog, ${facts.searchPath}`)}, true)`,
    ].join('; ');
  }

  /** Errors: MISSING_PRIVILEGE with the statements that help; QUERY_FAILED while another repairs. */
  static async open(session: Session, options: TargetOptions): Promise<TargetSession> {
    const { leader = null } = options;
    if (leader !== null) await putLeader(session, leader);
    const hasSpock = await hasRepairMode(session);
    const { writer, arbiters, ...table } = await readTableFacts(session, options);
    if (table.firingRules !== null) throw hasRules(session, table.firingRules);
    const searchPath = await userSearchPath(session, writer);
    const deletesCascade = options.firesTriggers || table.hasFiringTriggers;
    const { tableOid, firesTriggers } = options;
    const looseConstraints = firesTriggers ? [] : await readLooseConstraints(session, tableOid);
    const cascades = deletesCascade ? await readCascades(session, tableOid) : [];
    if (cascades.length > 0 && !(await countsWrites(session))) throw blindToCascades(session);
    const facts = {
      hasSpock,
      writer,
      searchPath,
      deletesCascade,
      arbiters,
      looseConstraints,
      cascades,
    };
    const target = new TargetSession(session, facts, options);
    await target.#checkPrivileges();
    await setUpOrigin(session, options.signal);
    return target;
  }

  /** @param commitTime what the transaction is to have instead of its own time, see stage() */
  async begin(commitTime: string | null): Promise<void> {
    const { hasSpock, writer } = this.facts;
    // Else every transaction of a session has the time of its first one, and that one none.
    const at = commitTime === null ? 'pg_catalog.clock_timestamp()' : quoteLiteral(commitTime);
    const statements = [
      this.#settings,
      ...(this.#leader === null ? [] : [holdLeaderSql(this.#leader)]),
      `SELECT pg_catalog.pg_replication_origin_xact_setup('${ORIGIN_POSITION}', ${at})`,
      ...(hasSpock ? ['SELECT spock.repair_mode(true)'] : []),
      ...(writer === null ? [] : [`SET LOCAL ROLE ${quoteIdentifier(writer)}`]),
    ];
    try {
      await this.session.query(statements.join('; '));
    } catch (error) {
      throw orDeposed(error, this.session);
    }
  }

  async commit(): Promise<void> {
    this.#leader?.reign.require();
    await this.session.query('COMMIT');
  }

  async rollback(): Promise<void> {
    await this.session.query('ROLLBACK').catch(() => this.session.destroy());
  }

  /** Leaves the session as it was; one that cannot be reset is given up. */
  async close(): Promise<void> {
    if (this.session.isBroken) return;
    try {
      await this.session.query('SELECT pg_catalog.pg_replication_origin_session_reset()');
    } catch {
      this.session.destroy();
    }
  }

  async #checkPrivileges(): Promise<void> {
    try {
      await this.session.query(this.#settings);
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
 * Whether Spock is there. Asked of the catalog: to_regprocedure() raises where the schema may not
 * be used. Errors: MISSING_PRIVILEGE, for without its repair mode the repair would be replicated.
 */
async function hasRepairMode(session: Session): Promise<boolean> {
  const rows = await session.query(
    `SELECT pg_catalog.has_schema_privilege(n.oid, 'USAGE'), pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
       FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid
      WHERE n.nspname = 'spock' AND p.proname = 'repair_mode'
        AND p.proargtypes = '16'::pg_catalog.oidvector`,
  );
  const [privileges] = rows;
  if (privileges === undefined) return false;
  const [hasUsage, hasExecute] = privileges;
  if (hasUsage === 't' && hasExecute === 't') return true;
  const { name, user } = session.node;
  const role = quoteIdentifier(user);
  throw new AcedError(
    'MISSING_PRIVILEGE',
    `role ${user} may not use Spock's repair mode on node ${name}, so a repair would be replicated`,
    {
      hint: `In this database on ${name}, as a superuser: ${
        hasUsage === 't'
          ? `GRANT EXECUTE ON FUNCTION spock.repair_mode(boolean) TO ${role};`
          : `GRANT USAGE ON SCHEMA spock TO ${role};`
      }`,
    },
  );
}

/**
 * Who writes: as the server's own apply worker does, the table's owner where our role may become
 * it. The owner's triggers and functions then run with the owner's rights, not with ours.
 */
async function readTableFacts(
  session: Session,
  { tableOid, firesTriggers }: TargetOptions,
): Promise<TableFacts> {
  const option = session.serverVersion >= 160_000 ? 'SET' : 'MEMBER';
  // tgtype: bit 3 is DELETE; ev_type: 2, 3 and 4 are UPDATE, INSERT and DELETE.
  const rows = await session.query(
    `SELECT r.rolname, r.rolname <> current_user AND pg_catalog.pg_has_role(r.oid, '${option}'),
            EXISTS (SELECT FROM pg_catalog.pg_trigger g
                     WHERE g.tgrelid IN (SELECT c.oid UNION ALL
                                         SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) p)
                       AND (g.tgisinternal OR g.tgtype & 8 <> 0) AND g.tgenabled IN ('A', 'R')),
            (SELECT CASE
                      WHEN NOT pg_catalog.bool_and(i.indimmediate AND NOT i.indisexclusion) FILTER (WHERE i.indisprimary)
                        OR EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type IN ('2', '3'))
                      THEN 'none'
                      WHEN pg_catalog.bool_and(i.indimmediate) THEN 'any' ELSE 'key' END
               FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid),
            (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(w.rulename), ', ' ORDER BY w.rulename)
               FROM pg_catalog.pg_rewrite w
              WHERE w.ev_class = c.oid AND w.ev_type <> '1' AND w.ev_enabled IN ('A', $2::"char"))
       FROM pg_catalog.pg_class c JOIN pg_catalog.pg_roles r ON r.oid = c.relowner
      WHERE c.oid = $1::oid`,
    [String(tableOid), firesTriggers ? 'O' : 'R'],
  );
  const [owner = null, isOther, hasFiringTriggers, arbiters, firingRules = null] = rows[0] ?? [];
  return {
    writer: isOther === 't' ? owner : null,
    hasFiringTriggers: hasFiringTriggers === 't',
    arbiters: arbiters === 'any' || arbiters === 'key' ? arbiters : 'none',
    firingRules,
  };
}

function blindToCascades(session: Session): AcedError {
  return new AcedError(
    'UNSUPPORTED',
    `node ${session.node.name} does not count what is written (track_counts = off), so what foreign keys delete or change along cannot be told`,
    { hint: 'ALTER SYSTEM SET track_counts = on, or leave --fire-triggers out' },
  );
}

/** What such a rule makes of our statements is anybody's guess, and most of them cannot be. */
function hasRules(session: Session, rules: string): AcedError {
  return new AcedError(
    'UNSUPPORTED',
    `the table on node ${session.node.name} has rules that a repair would fire: ${rules}`,
    {
      hint: 'ALTER TABLE … DISABLE RULE for the time of the repair; those of ENABLE RULE fire only with --fire-triggers',
    },
  );
}

/**
 * The search path that other sessions of the role that writes have: ours is pinned, and triggers were written
 * for theirs. Precedence: https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html
 */
async function userSearchPath(session: Session, writer: string | null): Promise<string> {
  const rows = await session.query(
    `SELECT pg_catalog.substr(c.setting, pg_catalog.length('search_path=') + 1)
       FROM pg_catalog.pg_db_role_setting s, unnest(s.setconfig) c(setting)
      WHERE c.setting LIKE 'search\\_path=%'
        AND s.setdatabase IN (0, (SELECT oid FROM pg_catalog.pg_database
                                   WHERE datname = pg_catalog.current_database()))
        AND s.setrole IN (0, (SELECT oid FROM pg_catalog.pg_roles
                               WHERE rolname = coalesce($1::name, session_user)))
      ORDER BY s.setrole <> 0 DESC, s.setdatabase <> 0 DESC LIMIT 1`,
    [writer],
  );
  return rows[0]?.[0] ?? serverSearchPath(session);
}

/**
 * What the server's configuration says, as a session shows it in which nobody else has. Where our
 * role has a path of its own that one hides it: PostgreSQL's own default then.
 */
async function serverSearchPath({ node }: Session): Promise<string> {
  const plain = await Session.connect(node, { applicationName: 'aced', hasUserPath: true });
  try {
    const rows = await plain.query(
      `SELECT CASE WHEN source IN ('database', 'user', 'database user') THEN boot_val ELSE reset_val END
         FROM pg_catalog.pg_settings WHERE name = 'search_path'`,
    );
    return rows[0]?.[0] ?? '';
  } finally {
    await plain.close();
  }
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
        break;
      } catch (error) {
        // An origin has one user at a time.
        if (!hasSqlState(error, SQLSTATE.objectInUse) || attempt >= ORIGIN_ATTEMPTS) throw error;
      }
      await sleep(ORIGIN_RETRY_MS, signal);
    }
    await tryTransactionOrigin(session);
  } catch (error) {
    throw originError(error, session);
  }
}

/** Only a transaction may have a position and a time; this one writes nothing. */
async function tryTransactionOrigin(session: Session): Promise<void> {
  try {
    await session.query(
      `BEGIN; SELECT pg_catalog.pg_replication_origin_xact_setup('${ORIGIN_POSITION}', pg_catalog.clock_timestamp()); ROLLBACK`,
    );
  } catch (error) {
    await session.query('ROLLBACK').catch(() => session.destroy());
    await session
      .query('SELECT pg_catalog.pg_replication_origin_session_reset()')
      .catch(() => session.destroy());
    throw error;
  }
}

/**
 * `mtree teardown`: an origin left behind would hold one of the server's few places for origins for
 * good. Another cluster's repairs on the server make it again. Errors: QUERY_FAILED while a repair
 * runs, MISSING_PRIVILEGE.
 */
export async function dropRepairOrigin(session: Session): Promise<void> {
  try {
    await session.query(
      `SELECT pg_catalog.pg_replication_origin_drop(o.roname)
         FROM pg_catalog.pg_replication_origin o WHERE o.roname = '${REPAIR_ORIGIN}'`,
    );
  } catch (error) {
    // Another teardown has just dropped it.
    if (hasSqlState(error, SQLSTATE.undefinedObject)) return;
    throw hasSqlState(error, SQLSTATE.insufficientPrivilege)
      ? dropError(error, session)
      : originError(error, session);
  }
}

function dropError(error: unknown, session: Session): AcedError {
  const { name, user } = session.node;
  return new AcedError(
    'MISSING_PRIVILEGE',
    `role ${user} may not drop the replication origin ${REPAIR_ORIGIN} on node ${name}`,
    {
      hint: `On ${name}, as a superuser: SELECT pg_catalog.pg_replication_origin_drop('${REPAIR_ORIGIN}');`,
      cause: error,
    },
  );
}

const ORIGIN_FUNCTIONS = [
  'pg_replication_origin_oid(text)',
  'pg_replication_origin_create(text)',
  'pg_replication_origin_session_setup(text)',
  'pg_replication_origin_xact_setup(pg_lsn, timestamptz)',
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
