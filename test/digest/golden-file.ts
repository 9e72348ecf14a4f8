import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/base/native.js';

/** hashtextextended() of a PostgreSQL server, made by make-golden.ts. */
export interface GoldenFile {
  readonly serverVersion: string;
  /** [bytes in hex, seed, result]; signed decimals. */
  readonly vectors: readonly (readonly [string, string, string])[];
}

/** JSON is not compiled along, so it is read from the sources. */
export function goldenPath(): string {
  return join(packageRoot() ?? '.', 'test', 'digest', 'hashtextextended.json');
}

export function readGoldenFile(): GoldenFile {
  return JSON.parse(readFileSync(goldenPath(), 'utf8')) as GoldenFile;
}
