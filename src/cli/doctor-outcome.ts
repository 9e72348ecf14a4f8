import type { DoctorResult, Finding } from '../protocol/doctor.js';
import {
  EXIT_DIFFERENT,
  EXIT_DONE,
  EXIT_TROUBLE,
  info,
  warn,
  type Outcome,
  type OutcomeLine,
} from './outcome-lines.js';

const MARKS = { ok: '✔', warning: '⚠', problem: '✘' } as const;

/** `doctor`: 0 all is well, 1 warnings, 2 problems. */
export function describeDoctor({ findings, nodes, tables }: DoctorResult): Outcome {
  const count = (level: Finding['level']): number =>
    findings.filter((one) => one.level === level).length;
  const lines: OutcomeLine[] = findings.flatMap(({ level, check, subject, evidence, remedy }) => {
    const line = `${MARKS[level]} ${subject}, ${check}: ${evidence}`;
    const tell = level === 'ok' ? info : warn;
    return remedy === null ? [tell(line)] : [tell(line), tell(`    ${remedy}`)];
  });
  const problems = count('problem');
  const warnings = count('warning');
  const looked = `${nodes.length} nodes and ${tables} tables were looked at`;
  if (problems > 0) {
    const end = `✘ ${problems} PROBLEMS, ${warnings} warnings; ${looked}`;
    return { lines: [...lines, warn(end)], exitCode: EXIT_TROUBLE };
  }
  if (warnings > 0) {
    const end = `⚠ ${warnings} WARNINGS; ${looked}`;
    return { lines: [...lines, warn(end)], exitCode: EXIT_DIFFERENT };
  }
  return { lines: [...lines, info(`✔ ALL IS WELL; ${looked}`)], exitCode: EXIT_DONE };
}
