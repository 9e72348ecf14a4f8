import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, it } from 'node:test';

const CHILD = join(import.meta.dirname, 'watchdog-child.js');

async function run(...args: string[]) {
  const child = spawn(process.execPath, [CHILD, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  let log = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (log += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  const events = log
    .split('\n')
    .filter(Boolean)
    .map((line) => (JSON.parse(line) as { event: string }).event);
  return { code, signal, events };
}

describe('the watchdog', () => {
  it('tells of a loop that was late, and kills the process of one that hangs', async () => {
    const { signal, events } = await run();
    assert.equal(signal, 'SIGKILL');
    assert.equal(events[0], 'event_loop_lag');
    assert.equal(events.at(-1), 'event_loop_stuck');
  });

  it('does not keep the process', async () => {
    assert.deepEqual(await run('ends'), { code: 0, signal: null, events: [] });
  });
});
