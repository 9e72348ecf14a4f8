import { accessSync, constants } from 'node:fs';
import { join } from 'node:path';
import { AcedError } from '../base/errors.js';
import type { Logger } from '../base/log.js';
import type { Config } from '../config/config.js';
import { commandTarget, webhookTarget, type HookTarget } from './hook-targets.js';
import { Hook } from './hook.js';

/** Errors: BAD_CONFIG when the command is no program. To be asked before anything is begun. */
export function checkHooks({ hooks: { command } }: Config): void {
  if (command === null) return;
  try {
    accessSync(command, constants.X_OK);
  } catch (error) {
    throw new AcedError('BAD_CONFIG', `hooks.command: ${command} cannot be run`, {
      hint: 'Name a program that this user may execute.',
      cause: error,
    });
  }
}

/** Begins to hand on what the last process left. */
export function openHooks({ hooks, stateDir }: Config, log: Logger): Hook[] {
  const { webhook, authorization, command } = hooks;
  const targets: (readonly [string, HookTarget])[] = [];
  if (webhook !== null) targets.push(['webhook', webhookTarget(webhook, authorization)]);
  if (command !== null) targets.push(['command', commandTarget(command)]);
  return targets.map(
    ([name, target]) => new Hook({ name, target, directory: join(stateDir, 'hooks', name), log }),
  );
}
