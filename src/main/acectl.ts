#!/usr/bin/env node
import type { CliFlags, InProcessRunner } from '../cli/run.js';
import { describeIgnored } from '../config/config.js';
import type { LoadedConfig } from '../config/load.js';
import { loadOptions, runAcectl } from './command-line.js';

// What a command at a running daemon does without is imported where it is needed: the start-up
// is most of what such a command costs.

async function load(flags: CliFlags): Promise<LoadedConfig> {
  const { loadConfig } = await import('../config/load.js');
  return loadConfig(loadOptions(flags));
}

async function connectInProcess(flags: CliFlags): Promise<InProcessRunner> {
  const { config, misspelt } = await load(flags);
  const { Engine } = await import('../commands/engine.js');
  const { createLogger, silentLogger } = await import('../base/log.js');
  const log = flags.isDebug ? createLogger('debug', process.stderr) : silentLogger();
  const engine = await Engine.open(config, { log, mode: 'command' });
  return {
    warnings: misspelt.map(describeIgnored),
    run: (name, params, context) => engine.run(name, params, context),
    close: () => engine.close(),
  };
}

async function runDaemon(flags: CliFlags): Promise<void> {
  const { serve } = await import('./serve.js');
  await serve(loadOptions(flags));
}

async function showConfig(
  flags: CliFlags,
): Promise<{ config: unknown; ignored: readonly string[] }> {
  const { config, ignored } = await load(flags);
  const { describeConfig } = await import('../config/load.js');
  return {
    config: describeConfig(config),
    ignored: ignored.map(describeIgnored),
  };
}

async function configTemplate(): Promise<string> {
  const template = await import('../config/config-template.js');
  return template.configTemplate();
}

await runAcectl({ connectInProcess, runDaemon, showConfig, configTemplate });
