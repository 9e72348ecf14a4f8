import type { ReplicationDiffResult } from '../protocol/replication-diff.js';
import {
  EXIT_DIFFERENT,
  EXIT_DONE,
  EXIT_TROUBLE,
  info,
  warn,
  type Outcome,
  type OutcomeLine,
} from './outcome-lines.js';
import { differenceLines } from './structure-outcome.js';

/** `replication-diff`, `spock-diff`: 2 where something could not be read, 1 for anything else that is told. */
export function describeReplication(result: ReplicationDiffResult): Outcome {
  const { subscriptions, differences, problems, hidden, warnings } = result;
  const lines: OutcomeLine[] = subscriptions.map(({ name, kind, from, to, state }) => {
    const line = `${from} → ${to}: ${kind} subscription ${name}, ${state}`;
    return state === 'running' ? info(line) : warn(line);
  });
  if (subscriptions.length === 0) lines.push(info('No node subscribes to another one'));
  lines.push(...warnings.map(warn));
  for (const difference of differences) lines.push(...differenceLines(difference, ''));
  lines.push(...problems.map(({ subject, message }) => warn(`${subject}: ${message}`)));
  for (const { node, grant } of hidden) {
    lines.push(warn(`${node}: not all could be read; run there: ${grant}`));
  }
  const grave = differences.filter(({ rank }) => rank !== 'cosmetic').length + problems.length;
  if (hidden.length > 0) {
    return { lines: [...lines, warn('NOT PROVED ALIKE: see above')], exitCode: EXIT_TROUBLE };
  }
  if (grave > 0) {
    const end = `✘ REPLICATION DIFFERS: ${differences.length} differences, ${problems.length} problems`;
    return { lines: [...lines, warn(end)], exitCode: EXIT_DIFFERENT };
  }
  return { lines: [...lines, info('✔ REPLICATION IS SET UP ALIKE AND RUNS')], exitCode: EXIT_DONE };
}
