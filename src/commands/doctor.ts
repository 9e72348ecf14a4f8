import { statfs } from 'node:fs/promises';
import { steadyNowMs } from '../base/clock.js';
import { AcedError, errorMessage } from '../base/errors.js';
import type { Cluster } from '../cluster/cluster.js';
import { checkDecoding } from '../doctor/decode-check.js';
import { compareServers, judgeServer } from '../doctor/server-checks.js';
import { readServerFacts, type ServerFacts } from '../doctor/server-facts.js';
import { checkTables } from '../doctor/table-checks.js';
import { SYNCHRONOUS_WARNING } from '../ingest/pipeline.js';
import { onEveryNode } from '../postgres/every-node.js';
import type { CommandContext, DoctorParams } from '../protocol/commands.js';
import type { DoctorResult, Finding } from '../protocol/doctor.js';
import { requirePrimary } from '../replication/primary.js';
import { synchronousNames } from '../replication/synchronous.js';
import type { TableName } from '../table/table-name.js';
import { chooseTables } from './choose-tables.js';
import { replicationDiff } from './replication-diff.js';

const GIBIBYTE = 1024 ** 3;

/**
 * `doctor`: everything that would stop or mislead aced on these nodes. Writes nothing on any of them, but for
 * the canary of `decode`. What cannot be looked at is a problem of its own and stops no other check.
 */
export async function examine(
  cluster: Cluster,
  params: DoctorParams,
  context: CommandContext,
): Promise<DoctorResult> {
  const startedAtMs = steadyNowMs();
  const nodes = cluster.selectNodes(params.nodes, 1);
  const findings: Finding[] = [];
  const facts = new Map<string, ServerFacts>();
  await Promise.all(
    nodes.map(async (node) => {
      const found = await examineNode(cluster, node, { facts, context });
      findings.push(...found);
    }),
  );
  findings.sort((a, b) => nodes.indexOf(a.subject) - nodes.indexOf(b.subject));
  findings.push(...compareServers(facts), await diskOf(cluster.config.stateDir));
  const reachable = nodes.filter((node) => facts.get(node)?.isStandby === false);
  let tables = 0;
  if (reachable.length >= 2) {
    const asked = { ...context, emit: () => undefined };
    const rest = { cluster, nodes: reachable, context: asked };
    findings.push(...(await told('replication', () => replicationFindings(rest))));
    const about = await told('tables', async () => {
      const found = await tableFindings(rest, params);
      ({ tables } = found);
      return found.findings;
    });
    findings.push(...about);
  }
  return { nodes, findings, tables, timeTakenMs: steadyNowMs() - startedAtMs };
}

interface Examined {
  readonly cluster: Cluster;
  readonly nodes: readonly string[];
  readonly context: CommandContext;
}

/** A check that fails is a finding. */
async function told(
  check: string,
  work: () => Promise<Finding[]>,
  subject = 'all nodes',
): Promise<Finding[]> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof AcedError && error.code === 'CANCELLED') throw error;
    const remedy = error instanceof AcedError ? (error.hint ?? null) : null;
    return [{ level: 'problem', check, subject, evidence: errorMessage(error), remedy }];
  }
}

function examineNode(
  cluster: Cluster,
  node: string,
  {
    facts,
    context,
  }: { readonly facts: Map<string, ServerFacts>; readonly context: CommandContext },
): Promise<Finding[]> {
  const { config } = cluster;
  const names = {
    schema: config.nodeSchema,
    publication: config.publicationName,
    slot: config.slotName,
  };
  const work = async (): Promise<Finding[]> => {
    const [pool] = cluster.poolsOf([node]).values();
    if (pool === undefined) return [];
    return pool.use(async (session) => {
      const seen = await readServerFacts(session, names, context.signal);
      facts.set(node, seen);
      if (seen.isStandby) await requirePrimary(session);
      const setting = await synchronousNames(session, `aced ${config.cluster}`);
      const synchronous: Finding = {
        level: setting === null ? 'ok' : 'warning',
        check: 'synchronous_standby_names',
        subject: node,
        evidence: setting === null ? 'does not name aced' : `'${setting}': ${SYNCHRONOUS_WARNING}`,
        remedy: setting === null ? null : 'Name your standbys in it, not *.',
      };
      return [...judgeServer(pool.node, seen), synchronous];
    }, context.signal);
  };
  return told('connection', work, node);
}

/** Subscriptions, slots and settings, as `replication-diff` says it. */
async function replicationFindings({ cluster, nodes, context }: Examined): Promise<Finding[]> {
  const { subscriptions, problems, hidden, warnings } = await replicationDiff(
    cluster,
    { nodes },
    context,
  );
  const found: Finding[] = problems.map(({ subject, message }) => ({
    ...{ level: 'warning', check: 'replication', subject, evidence: message },
    remedy:
      'See all with acectl replication-diff; a difference that it explains is told as in flight or starved.',
  }));
  for (const { node, grant } of hidden) {
    const evidence = 'the role may not read how it replicates';
    found.push({ level: 'problem', check: 'replication', subject: node, evidence, remedy: grant });
  }
  for (const text of warnings) {
    found.push({
      level: 'warning',
      check: 'replication',
      subject: 'all nodes',
      evidence: text,
      remedy: null,
    });
  }
  const level = subscriptions.length === 0 ? 'warning' : 'ok';
  if (found.length > 0 && level === 'ok') return found;
  const evidence =
    level === 'ok'
      ? `${subscriptions.length} subscriptions run`
      : 'no node subscribes to another one: every difference is drift';
  return [...found, { level, check: 'replication', subject: 'all nodes', evidence, remedy: null }];
}

/** The table that was asked for, else those with a tree, else all. */
async function tableFindings(
  { cluster, nodes, context }: Examined,
  { table, decode = false }: DoctorParams,
): Promise<{ readonly findings: Finding[]; readonly tables: number }> {
  const pools = cluster.poolsOf(nodes);
  const { config, tables: tracked } = cluster;
  const { signal } = context;
  const options = { publication: config.publicationName, signal };
  const look = async (chosen: readonly TableName[]): Promise<Finding[]> => {
    const found = await checkTables(pools, chosen, options);
    if (!decode) return found;
    const decoded = await onEveryNode(pools, signal, (_, pool, either) =>
      checkDecoding(pool, chosen, { signal: either }),
    );
    return [...found, ...[...decoded.values()].flat()];
  };
  if (table === undefined && tracked.length > 0) {
    const specs = tracked.map(({ spec }) => spec);
    return { findings: await look(specs), tables: specs.length };
  }
  const choice = table === undefined ? { all: true } : { tables: [table] };
  const chosen = await chooseTables(pools, choice, { nodeSchema: config.nodeSchema, signal });
  const missing = chosen.missing.map(({ schema, name, reason }): Finding => ({
    ...{ level: 'warning', check: 'table', subject: `${schema}.${name}`, evidence: reason },
    remedy: 'See what differs with acectl schema-diff --ddl-only.',
  }));
  return {
    findings: [...missing, ...(await look(chosen.chosen))],
    tables: chosen.chosen.length,
  };
}

async function diskOf(stateDir: string): Promise<Finding> {
  const { bavail, bsize } = await statfs(stateDir);
  const free = bavail * bsize;
  const isLow = free < GIBIBYTE;
  return {
    level: isLow ? 'warning' : 'ok',
    check: 'state directory',
    subject: stateDir,
    evidence: `${(free / GIBIBYTE).toFixed(1)} GiB free`,
    remedy: isLow
      ? 'Make room: on a full disk the streams stop, and the slots hold back log.'
      : null,
  };
}
