import assert from 'node:assert/strict';
import { after, describe, it } from 'node:test';
import { generate } from './generator.js';
import { Tally } from './outcome.js';
import { lastLog, play } from './player.js';
import { Servers } from './playground.js';
import { describeHistory } from './replay.js';
import { shrink } from './shrink.js';
import type { Shape } from './steps.js';

const FIXED_SEED = 20_261_128;
const SHRINK_MS = 60_000;
/** Of the diffs of a history; each has a reason that plain SQL knows of. */
const MAX_UNDECIDED = 0.15;

interface Part {
  readonly shape: Shape;
  readonly steps: number;
  readonly kills: number;
}

const PARTS: readonly Part[] = [
  { shape: { major: 18, nodes: 2 }, steps: 350, kills: 6 },
  { shape: { major: 15, nodes: 2 }, steps: 150, kills: 3 },
];

/** `npm run history` plays many more; a seed that fails here can be given to it. */
describe('random histories on real clusters', () => {
  const randomSeed = Number(process.env['ACED_TEST_SEED'] ?? Date.now() % 1_000_000);
  const running: Servers[] = [];

  after(async () => {
    for (const servers of running) await servers.stop();
  });

  for (const { shape, steps, kills } of PARTS) {
    it(`PostgreSQL ${shape.major}: what aced says is what plain SQL says`, async () => {
      const servers = await Servers.start(shape);
      running.push(servers);
      for (const seed of [FIXED_SEED, randomSeed]) {
        console.log(`ACED_TEST_SEED=${seed}`);
        const history = generate({ seed, shape, steps, kills });
        const tally = new Tally();
        const failure = await play(servers, history, tally);
        if (failure !== null) {
          console.log(lastLog.text);
          const shrunk = await shrink(servers, history, failure, { timeMs: SHRINK_MS });
          assert.fail(`${describeHistory(shrunk.history)}\n${shrunk.failure.message}`);
        }
        console.log(tally.describe());
        assert.ok(tally.kills >= kills, 'the daemon was killed');
        assert.ok(tally.diffs > 20, 'there were diffs');
        assert.ok(tally.undecided <= MAX_UNDECIDED * tally.diffs, tally.describe());
      }
    });
  }
});
