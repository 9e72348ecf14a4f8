import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CommandContext, ProgressEvent } from '../../src/protocol/commands.js';

/** A command's context whose events are kept, with a report directory of its own. */
export interface TestContext extends CommandContext {
  readonly events: readonly ProgressEvent[];
  /** The messages of its log events. */
  readonly messages: () => string[];
}

export async function scratchDirectory(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'aced-test-'));
}

export async function removeDirectory(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

export function testContext(
  reportDir: string,
  options: { signal?: AbortSignal; inputPath?: string } = {},
): TestContext {
  const events: ProgressEvent[] = [];
  return {
    signal: options.signal ?? new AbortController().signal,
    emit: (event) => {
      events.push(event);
    },
    reportDir,
    events,
    messages: () => events.flatMap((event) => (event.type === 'log' ? [event.message] : [])),
    ...(options.inputPath === undefined ? {} : { inputPath: options.inputPath }),
  };
}
