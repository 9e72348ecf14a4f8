import assert from 'node:assert/strict';
import { it } from 'node:test';
import { createLogger } from '../../src/base/log.js';

it('an error is logged without what the server said of rows', () => {
  const lines: string[] = [];
  const log = createLogger('info', { write: (line: string) => void lines.push(line) });
  const detail = 'Key (id)=(4711) already exists.';
  const error = Object.assign(new Error('duplicate key'), { detail, cause: { detail } });
  log.error({ event: 'command_failed', err: error });
  assert.match(lines.join(''), /"err":\{"type":"Error","message":"duplicate key","stack":"/);
  assert.doesNotMatch(lines.join(''), /4711/);
});

it('control characters that journald takes for bytes are escaped, and the line stays JSON', () => {
  const lines: string[] = [];
  const log = createLogger('info', { write: (line: string) => void lines.push(line) });
  log.info({ event: 'ready', table: 'public.next\u0085line\u007f\u009f' });
  const [line = ''] = lines;
  assert.doesNotMatch(line, /[\u007f-\u009f]/);
  const { table } = JSON.parse(line) as { table: string };
  assert.equal(table, 'public.next\u0085line\u007f\u009f');
});
