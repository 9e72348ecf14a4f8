import { homedir } from 'node:os';
import { runCli } from '../cli/run.js';
import type { CliFlags, CliOptions } from '../cli/run.js';
import { definedClusters, loadServers } from '../config/definition.js';
import type { LoadOptions } from '../config/load.js';
import { locateDaemon } from '../config/locate.js';
import { VERSION } from '../commands/version.js';
import { cancelOnSignals } from './signals.js';

/** What the engine is needed for. */
export interface EngineParts {
  readonly connectInProcess: CliOptions['connectInProcess'];
  readonly runDaemon: (flags: CliFlags) => Promise<void>;
  readonly showConfig: CliOptions['showConfig'];
  readonly configTemplate: CliOptions['configTemplate'];
}

export function loadOptions(flags: CliFlags): LoadOptions {
  const { cluster, database, overrides } = flags;
  return { cluster, database, overrides, env: process.env, cwd: process.cwd(), home: homedir() };
}

/** The command of this process's arguments. Errors: what the parts throw as StartOver. */
export async function runAcectl(parts: EngineParts): Promise<void> {
  const signals = cancelOnSignals();
  process.stdout.on('error', ignoreGoneReader);
  try {
    process.exitCode = await runCli({
      ...parts,
      argv: process.argv.slice(2),
      env: process.env,
      stdout: process.stdout,
      stderr: process.stderr,
      tty: () => ({ input: process.stdin, output: process.stdout }),
      cwd: process.cwd(),
      version: VERSION,
      signal: signals.signal,
      locate,
      definedClusters: () => definedClusters(loadOptions({ isDebug: false, overrides: {} })),
      runDaemon: async (flags) => {
        signals.release();
        await parts.runDaemon(flags);
      },
    });
  } finally {
    signals.release();
  }
}

async function locate(flags: CliFlags): ReturnType<CliOptions['locate']> {
  const options = loadOptions(flags);
  const location = await locateDaemon(options);
  return { ...location, servers: () => loadServers(location.cluster, options) };
}

/** `acectl ... | head`: the reader is gone, and nobody is left to tell. */
function ignoreGoneReader(error: NodeJS.ErrnoException): void {
  // EIO: the terminal was closed.
  if (error.code !== 'EPIPE' && error.code !== 'EIO') throw error;
}
