import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { silentLogger } from '../../src/base/log.js';
import { EventFile } from '../../src/drift/event-file.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';

const CHILD = fileURLToPath(new URL('./event-file-child.js', import.meta.url));

interface Line {
  readonly number: number;
  readonly reason: string;
}

describe('the file of events', () => {
  let directory: string;

  before(async () => {
    directory = await scratchDirectory();
  });

  after(async () => {
    await removeDirectory(directory);
  });

  const linesOf = (path: string): Line[] => {
    const text = readFileSync(path, 'utf8');
    assert.ok(text.endsWith('\n'));
    return text
      .slice(0, -1)
      .split('\n')
      .map((line) => JSON.parse(line) as Line);
  };

  /** The kernel lets the file grow to so many KiB: what is beyond is refused, as on a full disk, and cut. */
  const append = (path: string, [from, to]: readonly [number, number], kibibytes: string): string =>
    spawnSync(
      'bash',
      [
        '-c',
        `ulimit -f ${kibibytes}; exec "$@"`,
        'bash',
        process.execPath,
        CHILD,
        path,
        String(from),
        String(to),
      ],
      { encoding: 'utf8' },
    ).stdout;

  it('has whole lines only when it cannot grow, says so once, and goes on when it can', () => {
    const path = join(directory, 'full.ndjson');
    const log = append(path, [0, 20], '2');
    assert.equal(log.split('events_file_failed').length - 1, 1, log);
    const whole = linesOf(path).map(({ number }) => number);
    assert.ok(whole.length > 2 && whole.length < 20, String(whole));
    append(path, [20, 22], 'unlimited');
    assert.deepEqual(
      linesOf(path).map(({ number }) => number),
      [...whole, 20, 21],
    );
  });

  it('ends a line that a process which was killed left half', () => {
    const path = join(directory, 'half.ndjson');
    append(path, [0, 1], 'unlimited');
    appendFileSync(path, '{"level":"warn","ti');
    append(path, [1, 2], 'unlimited');
    const lines = readFileSync(path, 'utf8').trimEnd().split('\n');
    assert.equal(lines.length, 3);
    assert.equal((JSON.parse(lines[2] ?? '') as Line).number, 1);
  });

  it('is turned over, and keeps four older ones', () => {
    const path = join(directory, 'turned.ndjson');
    const file = new EventFile(path, silentLogger(), 2_000);
    for (let number = 0; number < 60; number++) {
      const fields = { event: 'drift_opened', number, reason: 'é\u0085'.repeat(50) };
      file.append({ level: 'warn', fields, message: 'a row differs' }, number % 2 === 0);
    }
    for (const older of [1, 2, 3, 4]) assert.ok(linesOf(`${path}.${older}`).length > 0);
    assert.ok(!existsSync(`${path}.5`));
    const numbers = [4, 3, 2, 1].flatMap((older) =>
      linesOf(`${path}.${older}`).map(({ number }) => number),
    );
    assert.deepEqual(
      numbers,
      numbers.toSorted((a, b) => a - b),
    );
    assert.doesNotMatch(readFileSync(`${path}.1`, 'utf8'), /[\u007f-\u009f]/);
  });
});
