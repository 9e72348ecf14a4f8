import { AcedError } from '../base/errors.js';
import type { DiffFileHead } from '../diff-file/diff-reader.js';
import type { CommandContext, RepairParams } from '../protocol/commands.js';
import { describeServer, sameAddress, type ServerAddress } from '../protocol/servers.js';
import { letReplicationPass, PassageWarnings, type Replication } from '../replication/passage.js';
import type { Edge, Topology } from '../replication/topology.js';
import type { TableName } from '../table/table-name.js';

export interface ProofOptions {
  readonly replication: Replication;
  readonly spec: TableName;
  readonly config: {
    readonly diff: { readonly settleTimeoutMs: number };
    readonly nodes: readonly (ServerAddress & { readonly name: string })[];
  };
  readonly params: RepairParams;
  readonly context: CommandContext;
  /** Those whose rows are compared or written. */
  readonly nodes: ReadonlySet<string>;
  readonly head: Pick<DiffFileHead, 'verdict' | 'warnings' | 'servers'>;
  readonly path: string;
  /** The node that the file is about is lost: nothing of it is on its way any more. */
  readonly isRecovery: boolean;
}

/**
 * What a repair is to be refused for: a file about other servers, a file whose rows may be changes on their way, replication
 * that does not run now. A repair would undo such changes, and what has not arrived at a node cannot
 * be seen there by comparing what is written with what the diff saw. Returns the reasons as warnings
 * when the user insists or nothing is written; throws OTHER_SERVERS or NOT_PROVED otherwise.
 */
export async function checkProof(options: ProofOptions): Promise<string[]> {
  const { params, path, context } = options;
  const name = context.inputName ?? path;
  const isHarmless = params.dryRun === true || params.allowUnproved === true;
  const others = serverReasons(options, name);
  if (others.length > 0 && !isHarmless) {
    throw new AcedError('OTHER_SERVERS', `nothing is repaired: ${others.join('; ')}`, {
      hint:
        'Run the diff again on this cluster and repair from the new file; if these are the same ' +
        'servers at another address, --allow-unproved repairs all the same.',
    });
  }
  const now = await replicationReasons(options);
  const reasons = [...others, ...fileReasons(options, name, now), ...now];
  const [first] = reasons;
  if (first === undefined) return [];
  if (isHarmless) return reasons.map((reason) => `Not proved to be drift: ${reason}`);
  throw new AcedError('NOT_PROVED', `nothing is repaired: ${reasons.join('; ')}`, {
    hint:
      'Let replication catch up, run the diff again and repair from the new file; ' +
      '--allow-unproved repairs all the same and may undo changes that are on their way.',
  });
}

/** Two clusters may have one name and the same names of nodes, and files get copied. */
function serverReasons({ head, config, nodes }: ProofOptions, name: string): string[] {
  return config.nodes.flatMap((node) => {
    const compared = head.servers[node.name];
    if (!nodes.has(node.name) || compared === undefined || sameAddress(compared, node)) return [];
    return [
      `${name} is about another server: its ${node.name} is ${describeServer(compared)}, here it is ${describeServer(node)}`,
    ];
  });
}

function fileReasons(
  { head: { verdict, warnings }, isRecovery }: ProofOptions,
  name: string,
  now: readonly string[],
): string[] {
  // ACE's files do not say; only replication as it is now can be asked.
  if (verdict === null || verdict === 'drift') return [];
  // It was the lost node that the diff could not wait for. The other paths are looked at now, and a
  // row that they have changed since is no longer what the file says.
  if (isRecovery && verdict === 'starved') return [];
  // What was behind then and is behind now is told once, as it is now.
  const isTold = verdict === 'starved' && now.length > 0;
  const said = isTold || warnings.length === 0 ? '' : ` (${warnings.join('; ')})`;
  return [`the verdict of ${name} is ${verdict}, not drift${said}`];
}

/** Lets replication pass between the nodes concerned and all that it comes from or goes to. */
async function replicationReasons(options: ProofOptions): Promise<string[]> {
  const { replication, spec, config, context, nodes } = options;
  const topology = topologyOf(replication.topology, nodes);
  const { hidden, fromOutside } = topology;
  const isUnseen = [hidden, fromOutside, replication.unreachable].some(({ length }) => length > 0);
  if (topology.edges.length === 0 && !isUnseen) return [];
  const warnings = new PassageWarnings();
  const { hasPassed, isWhole, isRestricted } = await letReplicationPass(
    {
      replication: { ...replication, topology },
      table: spec,
      signal: context.signal,
      onWarning: warnings.add,
    },
    config.diff.settleTimeoutMs,
  );
  return hasPassed && isWhole && !isRestricted ? [] : [...warnings.texts];
}

/** The subscriptions into and out of some nodes. */
function topologyOf(topology: Topology, nodes: ReadonlySet<string>): Topology {
  const concerns = ({ from, to }: Edge): boolean => nodes.has(from) || nodes.has(to);
  return { ...topology, edges: topology.edges.filter(concerns) };
}
