#!/usr/bin/env node
import { StartOver } from '../cli/run.js';
import { runAcectl } from './command-line.js';

/**
 * acectl where a daemon runs. Bundled into one file (`npm run build:client`): to find and load its
 * thirty modules takes Node half as long as to start. What needs the engine is acectl.js's, which
 * begins anew: the modules of a bundle are others than its own.
 */
const startOver = (): never => {
  throw new StartOver();
};

runAcectl({
  connectInProcess: startOver,
  runDaemon: startOver,
  showConfig: startOver,
  configTemplate: startOver,
}).catch(async (error: unknown) => {
  if (!(error instanceof StartOver)) throw error;
  await import('./acectl.js');
});
