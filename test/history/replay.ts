import { describeStep, type History } from './steps.js';
import { setupSql } from './tables.js';

/** A history as a person would type it. */
export function describeHistory(history: History): string {
  const { shape, settings, tables, steps } = history;
  return [
    `-- PostgreSQL ${shape.major}, ${shape.nodes} nodes; ${JSON.stringify(settings)}`,
    ...tables.map((table) => `${setupSql(table)};`),
    ...steps.map(describeStep),
  ].join('\n');
}
