#!/usr/bin/env node
import { homedir } from 'node:os';
import { AcedError, errorMessage } from '../base/errors.js';
import { createLogger } from '../base/log.js';
import { parseAcedLine } from '../cli/aced-line.js';
import type { FlagValues } from '../cli/flags.js';
import { optionsHelp } from '../config/options.js';
import { VERSION } from '../commands/version.js';
import { serve } from './serve.js';

const EXIT_TROUBLE = 2;
/** A supervisor may start it again. */
const EXIT_RETRY = 1;

async function main(argv: readonly string[]): Promise<void> {
  const columns = process.stdout.columns;
  const line = parseAcedLine(argv, { columns, options: optionsHelp() });
  if (line.kind === 'help') {
    process.stdout.write(line.text);
    return;
  }
  if (line.kind === 'version') {
    process.stdout.write(`aced ${VERSION}\n`);
    return;
  }
  const { cluster, dbname, ...flags } = textsOf(line.flags);
  await serve({
    cluster,
    database: dbname,
    overrides: {
      logLevel: flags['log-level'],
      socket: flags['socket'],
      stateDir: flags['state-dir'],
    },
    env: process.env,
    cwd: process.cwd(),
    home: homedir(),
  });
}

function textsOf(flags: FlagValues): Record<string, string | undefined> {
  return Object.fromEntries([...flags].map(([name, value]) => [name, String(value)]));
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const code = error instanceof AcedError ? error.code : 'INTERNAL';
  const hint = error instanceof AcedError ? error.hint : undefined;
  createLogger('error').error({ event: 'start_failed', code, hint }, errorMessage(error));
  process.stderr.write(`aced: ${errorMessage(error)}\n`);
  if (hint !== undefined) process.stderr.write(`hint: ${hint}\n`);
  process.exitCode =
    error instanceof AcedError && error.prospect === 'retry' ? EXIT_RETRY : EXIT_TROUBLE;
}
