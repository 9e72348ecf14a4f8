import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Ajv2020 } from 'ajv/dist/2020.js';
import type { DriftEvent } from '../../src/drift/drift-event.js';

const SCHEMA = join(import.meta.dirname, '../../../docs/drift-event.schema.json');

/** The contract of the events, as the repository has it. */
export const validateEvent = new Ajv2020({ strict: false }).compile(
  JSON.parse(readFileSync(SCHEMA, 'utf8')) as object,
);

/** An event as the log shows it. */
export function lineOf({ level, fields, message }: DriftEvent): Record<string, unknown> {
  return { level, time: '2026-01-01T00:00:00.000Z', ...fields, msg: message };
}
