import { quoteIdentifier } from '../base/quote.js';
import type { NodeConfig } from '../config/config.js';
import { SUPERUSER_WARNING } from '../postgres/superuser.js';
import type { Finding } from '../protocol/doctor.js';
import type { ServerFacts } from './server-facts.js';

/** Oldest and newest major that the tests run on. */
const OLDEST = 15;
const NEWEST = 18;
const LONG_SECONDS = 3_600;
/** Commit times of two nodes are compared where the newest write is to win. */
const CLOCK_LIMIT_MS = 1_000;

/** A finding without its subject. */
type Told = Omit<Finding, 'subject'>;

const ok = (check: string, evidence: string): Told => ({
  ...{ level: 'ok', check, evidence },
  remedy: null,
});
const warning = (check: string, evidence: string, remedy: string): Told => ({
  ...{ level: 'warning', check, evidence },
  remedy,
});
const problem = (check: string, evidence: string, remedy: string): Told => ({
  ...{ level: 'problem', check, evidence },
  remedy,
});

/** What the facts of one server mean for the commands. Pure. */
export function judgeServer(node: NodeConfig, facts: ServerFacts): Finding[] {
  const role = quoteIdentifier(node.user);
  const told = [
    version(facts),
    walLevel(facts),
    replicates(facts, role),
    slots(facts),
    senders(facts),
    walLimit(facts),
    schema(facts, { role, database: quoteIdentifier(node.database) }),
    publication(facts),
    facts.isSuperuser
      ? warning('role', `${node.user} is a superuser`, SUPERUSER_WARNING)
      : ok('role', `${node.user} is not a superuser`),
    facts.keepsCommitTimes
      ? ok('track_commit_timestamp', 'on')
      : warning(
          'track_commit_timestamp',
          'off: an incident cannot say when and where a row was written',
          'Set it to on in postgresql.conf and restart the server; conflicts that the newest write wins need it too.',
        ),
    prepared(facts),
    longTransactions(facts),
  ];
  return told.map((one) => ({ ...one, subject: node.name }));
}

function version({ version: number }: ServerFacts): Told {
  const major = Math.floor(number / 10_000);
  if (major < OLDEST)
    return problem('version', `PostgreSQL ${major}`, `Upgrade to ${OLDEST} or later.`);
  if (major <= NEWEST) return ok('version', `PostgreSQL ${major}`);
  return warning(
    'version',
    `PostgreSQL ${major}`,
    `Use ${OLDEST} to ${NEWEST}, which aced was tested on.`,
  );
}

function walLevel({ walLevel: level, version: number }: ServerFacts): Told {
  const isEnough = level === 'logical' || (number >= 190_000 && level !== 'minimal');
  return isEnough
    ? ok('wal_level', level)
    : problem(
        'wal_level',
        level,
        'Set wal_level = logical in postgresql.conf, restart the server.',
      );
}

function replicates({ mayReplicate }: ServerFacts, role: string): Told {
  return mayReplicate
    ? ok('replication', 'the role may stream')
    : problem(
        'replication',
        'the role may not stream: table-diff works, mtree commands do not',
        `ALTER ROLE ${role} REPLICATION`,
      );
}

function slots({ freeSlots, hasSlot }: ServerFacts): Told {
  if (hasSlot) return ok('replication slots', 'ours is there');
  return freeSlots > 0
    ? ok('replication slots', `${freeSlots} free`)
    : problem('replication slots', 'none is free', 'Raise max_replication_slots, or drop one.');
}

function senders({ freeSenders }: ServerFacts): Told {
  if (freeSenders > 0) return ok('WAL senders', `${freeSenders} free`);
  return warning(
    'WAL senders',
    'none is free (one may be ours)',
    'Raise max_wal_senders, or end one.',
  );
}

function walLimit({ maxSlotWalKeep }: ServerFacts): Told {
  if (maxSlotWalKeep !== '-1') return ok('max_slot_wal_keep_size', maxSlotWalKeep);
  return warning(
    'max_slot_wal_keep_size',
    'no limit: while aced is down its slot holds back the log until the disk is full',
    'Set it below the free space of pg_wal.',
  );
}

function schema(
  { mayUseSchema, mayWriteSchema, mayCreateInDatabase }: ServerFacts,
  { role, database }: { readonly role: string; readonly database: string },
): Told {
  if (mayUseSchema === true && mayWriteSchema !== false) return ok('schema', 'ours is there');
  if (mayUseSchema !== null) {
    return problem(
      'schema',
      'the role may not use the schema of our tables',
      `Let ${role} own it, or GRANT it all on the schema and its tables.`,
    );
  }
  return mayCreateInDatabase
    ? ok('schema', 'mtree init may create it')
    : problem(
        'schema',
        'mtree init may not create it: table-diff works',
        `GRANT CREATE ON DATABASE ${database} TO ${role}`,
      );
}

function publication({ ownsPublication, mayCreateInDatabase }: ServerFacts): Told {
  if (ownsPublication === true) return ok('publication', 'ours is there');
  if (ownsPublication === false) {
    return warning(
      'publication',
      'it is there, and another role owns it: aced can neither add tables to it nor take them out',
      'Publish each table before its build; see "To follow tables, least privilege" in docs/03-nodes.md.',
    );
  }
  return mayCreateInDatabase
    ? ok('publication', 'mtree init may create it')
    : problem(
        'publication',
        'it is not there, and the role may not create it',
        'Let an administrator create it; see "To follow tables, least privilege" in docs/03-nodes.md.',
      );
}

function prepared({ prepared: count, oldestPreparedSeconds: seconds }: ServerFacts): Told {
  if (seconds < LONG_SECONDS) return ok('prepared transactions', String(count));
  return warning(
    'prepared transactions',
    `${count}, the oldest of ${seconds} s ago: it holds back the log in every slot`,
    'COMMIT PREPARED or ROLLBACK PREPARED what nobody waits for.',
  );
}

function longTransactions({ oldestOpenSeconds: seconds }: ServerFacts): Told {
  if (seconds < LONG_SECONDS) return ok('open transactions', `the oldest: ${seconds} s`);
  return warning(
    'open transactions',
    `one has been writing for ${seconds} s: a new slot waits for it, and it holds back the log`,
    'End it; pg_stat_activity names it.',
  );
}

/** What is unlike between servers. Pure. */
export function compareServers(facts: ReadonlyMap<string, ServerFacts>): Finding[] {
  return [
    ...unlike(facts, 'encoding', ({ encoding }) => encoding, {
      remedy: 'Texts that one of them cannot hold never replicate; values are compared as UTF-8.',
    }),
    ...unlike(facts, 'collation', ({ collation }) => collation, {
      remedy:
        'Keys of text are compared by an order of our own: builds read such tables as a whole.',
    }),
    ...unlike(facts, 'collation version', (one) => one.collationVersion ?? 'none', {
      remedy:
        'Rebuild indexes on text where the library has changed: REINDEX, then ALTER DATABASE ... REFRESH COLLATION VERSION.',
    }),
    ...clocks(facts),
  ];
}

function unlike(
  facts: ReadonlyMap<string, ServerFacts>,
  check: string,
  of: (facts: ServerFacts) => string,
  { remedy }: { readonly remedy: string },
): Finding[] {
  const values = Array.from(facts, ([node, one]) => [node, of(one)] as const);
  const subject = 'all nodes';
  if (new Set(values.map(([, value]) => value)).size <= 1) {
    return values.length === 0 ? [] : [{ ...ok(check, values[0]?.[1] ?? ''), subject }];
  }
  const evidence = values.map(([node, value]) => `${node}: ${value}`).join(', ');
  return [{ ...warning(check, evidence, remedy), subject }];
}

/** Each server's clock against ours, with half of the round trip as the error. */
function clocks(facts: ReadonlyMap<string, ServerFacts>): Finding[] {
  const offsets = Array.from(facts, ([node, { clockMs, askedAtMs, answeredAtMs }]) => ({
    node,
    ahead: clockMs - (askedAtMs + answeredAtMs) / 2,
    error: (answeredAtMs - askedAtMs) / 2 + 1,
  })).toSorted((a, b) => a.ahead - b.ahead);
  const [first] = offsets;
  const last = offsets.at(-1);
  if (first === undefined || last === undefined || offsets.length < 2) return [];
  const apart = Math.round(last.ahead - first.ahead);
  const error = Math.ceil(last.error + first.error);
  const evidence = `${first.node} and ${last.node} are ${apart} ms apart (± ${error} ms)`;
  const told =
    apart - error < CLOCK_LIMIT_MS
      ? ok('clocks', evidence)
      : warning(
          'clocks',
          evidence,
          'Let NTP or PTP keep them; where the newest write wins, the wrong one does.',
        );
  return [{ ...told, subject: 'all nodes' }];
}
