import { createRequire } from 'node:module';

/** Of package.json, which is three folders up from the compiled file (dist/src/engine). */
export const VERSION = (
  createRequire(import.meta.url)('../../../package.json') as { version: string }
).version;
