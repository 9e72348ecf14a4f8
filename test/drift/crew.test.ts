import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Crew } from '../../src/drift/crew.js';

/** Work that ends when it is told to. */
class Work {
  readonly begun: string[] = [];
  readonly #ends = new Map<string, () => void>();

  readonly do = (item: string): Promise<void> => {
    this.begun.push(item);
    return new Promise((resolve) => this.#ends.set(item, resolve));
  };

  end(...items: string[]): void {
    for (const item of items) this.#ends.get(item)?.();
  }
}

const NAMES = Array.from({ length: 12 }, (_, i) => `t${i}`);

describe('the crew that judges tables', () => {
  it('does not wait for those that take long, and leaves places for others', async () => {
    const crew = new Crew<string>();
    const work = new Work();
    await crew.work(NAMES, work.do);
    assert.deepEqual(work.begun, NAMES.slice(0, 4), 'four at once; the rest is left');
    await crew.work(NAMES, work.do);
    assert.deepEqual(work.begun, NAMES.slice(0, 8), 'four more beside the slow ones');
    await crew.work(NAMES, work.do);
    assert.equal(work.begun.length, 8, 'and no more');
    work.end(...NAMES);
    await crew.end();
    assert.ok(NAMES.every((name) => !crew.has(name)));
  });

  it('works on all of them where they are quick', async () => {
    const crew = new Crew<string>();
    const done: string[] = [];
    await crew.work(NAMES, (name) => {
      done.push(name);
      return Promise.resolve();
    });
    assert.deepEqual(done, NAMES);
  });

  it('those that wait for their turn take no place, and nobody waits for them at the end', async () => {
    const crew = new Crew<string>();
    const work = new Work();
    for (const name of NAMES) crew.await(name, work.do);
    assert.deepEqual(work.begun, NAMES);
    await crew.work(['a', 'b', 'c', 'd'], (name) => {
      work.begun.push(name);
      return Promise.resolve();
    });
    assert.deepEqual(work.begun.slice(NAMES.length), ['a', 'b', 'c', 'd']);
    await crew.end();
    crew.begin('t0');
    let hasEnded = false;
    const end = crew.end().then(() => {
      hasEnded = true;
    });
    await Promise.resolve();
    assert.equal(hasEnded, false, 'one whose turn has come is waited for');
    work.end('t0');
    await end;
    assert.equal(crew.has('t0'), false);
  });
});
