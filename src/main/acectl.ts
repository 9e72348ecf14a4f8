#!/usr/bin/env node
import { homedir } from 'node:os';
import { runCli } from '../cli/run.js';
import type { CliFlags, CliOptions, InProcessRunner } from '../cli/run.js';
import { locateDaemon } from '../config/locate.js';
import type { LoadOptions, LoadedConfig } from '../config/load.js';
import { VERSION } from '../commands/version.js';
import { cancelOnSignals } from './signals.js';

// What a command at a running daemon does without is imported where it is needed: the start-up
// is most of what such a command costs.

function loadOptions(flags: CliFlags): LoadOptions {
  const { cluster, database, overrides } = flags;
  return { cluster, database, overrides, env: process.env, cwd: process.cwd(), home: homedir() };
}

async function load(flags: CliFlags): Promise<LoadedConfig> {
  const { loadConfig } = await import('../config/load.js');
  return loadConfig(loadOptions(flags));
}

async function locate(flags: CliFlags): ReturnType<CliOptions['locate']> {
  const options = loadOptions(flags);
  const [location, { loadServers }] = await Promise.all([
    locateDaemon(options),
    import('../config/definition.js'),
  ]);
  return { ...location, servers: () => loadServers(location.cluster, options) };
}

async function connectInProcess(flags: CliFlags): Promise<InProcessRunner> {
  const { config } = await load(flags);
  const { Engine } = await import('../commands/engine.js');
  const { createLogger, silentLogger } = await import('../base/log.js');
  const log = flags.isDebug ? createLogger('debug', process.stderr) : silentLogger();
  return Engine.open(config, { log, mode: 'command' });
}

async function runDaemon(flags: CliFlags): Promise<void> {
  const { serve } = await import('./serve.js');
  signals.release();
  await serve(loadOptions(flags));
}

async function showConfig(
  flags: CliFlags,
): Promise<{ config: unknown; ignored: readonly string[] }> {
  const { config, ignored } = await load(flags);
  const { describeConfig } = await import('../config/load.js');
  return {
    config: describeConfig(config),
    ignored: ignored.map(({ source, key }) => `${source}: ${key} has no meaning here`),
  };
}

async function configTemplate(): Promise<string> {
  const template = await import('../config/config-template.js');
  return template.configTemplate();
}

const signals = cancelOnSignals();
// `acectl ... | head`: the reader is gone, and nobody is left to tell.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});
process.exitCode = await runCli({
  argv: process.argv.slice(2),
  env: process.env,
  stdout: process.stdout,
  stderr: process.stderr,
  cwd: process.cwd(),
  version: VERSION,
  signal: signals.signal,
  locate,
  connectInProcess,
  runDaemon,
  showConfig,
  configTemplate,
});
signals.release();
