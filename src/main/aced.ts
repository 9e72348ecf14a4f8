#!/usr/bin/env node
import { homedir } from 'node:os';
import { parseArgs } from 'node:util';
import { AcedError, errorMessage } from '../base/errors.js';
import { createLogger } from '../base/log.js';
import { optionsHelp } from '../config/options.js';
import { VERSION } from '../commands/version.js';
import { serve } from './serve.js';

const EXIT_TROUBLE = 2;
/** A supervisor may start it again. */
const EXIT_RETRY = 1;

const FLAGS = {
  cluster: { type: 'string', short: 'c' },
  dbname: { type: 'string', short: 'd' },
  'log-level': { type: 'string' },
  socket: { type: 'string' },
  'state-dir': { type: 'string' },
  help: { type: 'boolean', short: 'h' },
  version: { type: 'boolean', short: 'V' },
} as const;

const HELP = `aced keeps a Merkle tree of each table and node current from the replication stream.

Usage: aced --cluster <name> [--dbname <database>] [--log-level <level>]
            [--socket <path>] [--state-dir <path>]

Logs are JSON lines on stdout. SIGTERM stops it cleanly, a second one at once.

Options in aced.yaml ($ACED_CONFIG, ./, ~/.config/aced/, /etc/aced/), with the environment
variables that win over them:
${optionsHelp()}
`;

async function main(argv: readonly string[]): Promise<void> {
  const { values } = parse(argv);
  if (values.help === true) {
    process.stdout.write(HELP);
    return;
  }
  if (values.version === true) {
    process.stdout.write(`aced ${VERSION}\n`);
    return;
  }
  await serve({
    cluster: values.cluster,
    database: values.dbname,
    overrides: {
      logLevel: values['log-level'],
      socket: values.socket,
      stateDir: values['state-dir'],
    },
    env: process.env,
    cwd: process.cwd(),
    home: homedir(),
  });
}

function parse(argv: readonly string[]): ReturnType<typeof parseArgs<{ options: typeof FLAGS }>> {
  try {
    return parseArgs({ args: [...argv], options: FLAGS, strict: true });
  } catch (error) {
    throw new AcedError('BAD_USAGE', errorMessage(error), {
      hint: 'see aced --help',
      cause: error,
    });
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const code = error instanceof AcedError ? error.code : 'INTERNAL';
  const hint = error instanceof AcedError ? error.hint : undefined;
  createLogger('error').error({ event: 'start_failed', code, hint }, errorMessage(error));
  process.stderr.write(`aced: ${errorMessage(error)}\n`);
  if (hint !== undefined) process.stderr.write(`hint: ${hint}\n`);
  process.exitCode = error instanceof AcedError && error.isRetryable ? EXIT_RETRY : EXIT_TROUBLE;
}
