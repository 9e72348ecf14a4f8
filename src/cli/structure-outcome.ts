import type { StructureDiffResult, StructureDifference } from '../protocol/schema-diff.js';
import { info, warn, type Outcome, type OutcomeLine } from './outcome-lines.js';

const MAX_VALUE_CHARS = 60;

/** Each difference with what every node says; of long definitions the first line that differs. */
export function describeStructure(result: StructureDiffResult): Outcome {
  const { schema, differences, objects, leftOut, warnings, exitCode, timeTakenMs } = result;
  const lines: OutcomeLine[] = warnings.map(warn);
  for (const { reason, objects: names } of leftOut) {
    lines.push(info(`Left out, ${reason}: ${names.join(', ')}`));
  }
  for (const difference of differences) {
    lines.push(...differenceLines(difference, `${difference.rank.replace('_', '-')}: `));
  }
  const count = Object.values(objects).reduce((sum, one) => sum + one, 0);
  const seconds = (timeTakenMs / 1000).toFixed(2);
  const compared = `${count} objects of schema ${schema} compared in ${seconds} s`;
  const grave = differences.filter(({ rank }) => rank !== 'cosmetic').length;
  if (grave > 0) lines.push(warn(`✘ STRUCTURES DIFFER: ${told(result)}; ${compared}`));
  else if (differences.length > 0) {
    lines.push(info(`✔ STRUCTURES MATCH but for what is cosmetic: ${told(result)}; ${compared}`));
  } else lines.push(info(`✔ STRUCTURES MATCH; ${compared}`));
  return { lines, exitCode };
}

function told({ counts }: StructureDiffResult): string {
  return Object.entries(counts)
    .filter(([, count]) => count > 0)
    .reverse()
    .map(([rank, count]) => `${count} ${rank.replace('_', '-')}`)
    .join(', ');
}

/** `label`: what stands before it. */
export function differenceLines(
  { kind, object, fact, rank, values }: StructureDifference,
  label: string,
): OutcomeLine[] {
  const tell = rank === 'cosmetic' ? info : warn;
  const nodes = Object.keys(values);
  const title = `${label}${kind} ${object}`;
  if (fact === null) {
    const has = nodes.filter((node) => values[node] !== null);
    const lacks = nodes.filter((node) => values[node] === null);
    return [tell(`${title}: on ${has.join(', ')}, not on ${lacks.join(', ')}`)];
  }
  const shown = differingParts(nodes.map((node) => values[node] ?? null));
  return [
    tell(`${title}: ${fact} differs`),
    ...nodes.map((node, i) => tell(`    ${node}: ${shown[i] ?? ''}`)),
  ];
}

/** Of texts with several lines the first that is not the same everywhere. */
function differingParts(values: readonly (string | null)[]): string[] {
  const texts = values.map((value) => (value === null ? null : value.split(/\r?\n/)));
  const longest = Math.max(...texts.map((lines) => lines?.length ?? 0));
  let at = 0;
  while (at < longest && texts.every((lines) => lines?.[at] === texts[0]?.[at])) at++;
  return texts.map((lines) => {
    if (lines === null) return '(nothing)';
    const line = (longest === 1 ? lines[0] : lines[at]?.trim()) ?? '(ends before)';
    return line.length > MAX_VALUE_CHARS ? `${line.slice(0, MAX_VALUE_CHARS)}…` : line;
  });
}
