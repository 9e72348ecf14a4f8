// The process that is measured: an engine of its own, told over IPC what to run.
import { readFileSync, writeFileSync } from 'node:fs';
import { errorMessage } from '../../src/base/errors.js';
import { createLogger } from '../../src/base/log.js';
import { parseLsn } from '../../src/base/lsn.js';
import { Cluster } from '../../src/cluster/cluster.js';
import { Engine } from '../../src/commands/engine.js';
import type { CommandContext, CommandRunner } from '../../src/protocol/commands.js';
import type { ChildAnswer, ChildRequest, DrainAnswer, RunAnswer } from './engine-messages.js';

const DRAIN_TIMEOUT_MS = 600_000;

let engine: Engine | null = null;

process.on('message', (message: ChildRequest) => {
  void answer(message);
});
process.on('disconnect', () => process.exit(0));

async function answer(message: ChildRequest): Promise<void> {
  let reply: ChildAnswer;
  try {
    reply = { id: message.id, ok: true, value: await handle(message) };
  } catch (error) {
    reply = { id: message.id, ok: false, message: errorMessage(error) };
  }
  process.send?.(reply);
}

async function handle(message: ChildRequest): Promise<unknown> {
  switch (message.kind) {
    case 'open':
      engine = await Engine.open(message.config, {
        log: createLogger(message.config.logLevel),
        mode: message.mode,
      });
      return null;
    case 'run':
      return run(message);
    case 'drain':
      return drain(message);
    case 'usage':
      return usage();
    case 'close':
      await engine?.close();
      engine = null;
      return null;
  }
}

async function run(message: Extract<ChildRequest, { kind: 'run' }>): Promise<RunAnswer> {
  if (engine === null) throw new Error('the engine is not open');
  const runner: CommandRunner = engine;
  const context: CommandContext = {
    signal: new AbortController().signal,
    emit: () => undefined,
    reportDir: message.reportDir,
    ...(message.inputPath === undefined ? {} : { inputPath: message.inputPath }),
  };
  // Starts the peak over (proc(5), clear_refs).
  writeFileSync('/proc/self/clear_refs', '5');
  const cpuBefore = process.cpuUsage();
  const startedAt = performance.now();
  const result = await runner.run(message.name, message.params, context);
  const ms = performance.now() - startedAt;
  const cpu = process.cpuUsage(cpuBefore);
  return { result, ms, cpuMs: (cpu.user + cpu.system) / 1000, peakMb: statusMb('VmHWM') };
}

async function drain(message: Extract<ChildRequest, { kind: 'drain' }>): Promise<DrainAnswer> {
  const cluster = new Cluster(message.config, createLogger(message.config.logLevel));
  try {
    const cpuBefore = process.cpuUsage();
    const startedAt = performance.now();
    cluster.startStreaming();
    for (const pipeline of cluster.pipelines.values()) {
      await pipeline.waitForPosition(parseLsn(message.fence), DRAIN_TIMEOUT_MS);
      pipeline.flush();
    }
    const ms = performance.now() - startedAt;
    const cpu = process.cpuUsage(cpuBefore);
    return { ms, cpuUs: cpu.user + cpu.system };
  } finally {
    await cluster.close();
  }
}

function usage(): { cpuUs: number; rssMb: number } {
  const cpu = process.cpuUsage();
  return { cpuUs: cpu.user + cpu.system, rssMb: statusMb('VmRSS') };
}

function statusMb(field: string): number {
  const status = readFileSync('/proc/self/status', 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? Number.NaN) / 1024;
}
