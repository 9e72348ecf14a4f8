import { readFile, writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import { generate } from './generator.js';
import { Tally, type HistoryFailure } from './outcome.js';
import { lastLog, play } from './player.js';
import { Servers } from './playground.js';
import { Random } from './random.js';
import { describeHistory } from './replay.js';
import { shrink } from './shrink.js';
import type { History, Shape } from './steps.js';

const HELP = `Plays random histories on real clusters and judges what aced says by plain SQL.

  npm run history -- --steps 100000 --kills 1000 --seed 1
  node dist/test/history/run.js --replay history.json

  --steps N      steps in all (default 2000)
  --kills N      kills of the daemon in all (default a hundredth of the steps)
  --seed N       default: a random one, printed
  --length N     steps of one history (default 1000); each has databases of its own
  --calm N       so many times more plain writes than everything else (default 1)
  --shapes LIST  PostgreSQL's major and number of nodes, e.g. 18x2,18x3,16x2,15x2 (the default)
  --keep-going   after a failure go on with the next history
  --shrink-seconds N  how long a failing history may be shrunk (default 300; 0: not at all)
  --replay FILE  plays a history from a file, as often as --times says; shrinks it further if it fails
  --times N      default 1
  --out FILE     where a failing history goes (default ./failed-history-<seed>.json)
`;

const { values } = parseArgs({
  options: {
    steps: { type: 'string', default: '2000' },
    kills: { type: 'string' },
    seed: { type: 'string' },
    length: { type: 'string', default: '1000' },
    calm: { type: 'string', default: '1' },
    shapes: { type: 'string', default: '18x2,18x3,16x2,15x2' },
    'keep-going': { type: 'boolean', default: false },
    'shrink-seconds': { type: 'string', default: '300' },
    replay: { type: 'string' },
    times: { type: 'string', default: '1' },
    out: { type: 'string' },
    help: { type: 'boolean', default: false },
  },
});

const say = (text: string): void => {
  process.stdout.write(`${text}\n`);
};

async function main(): Promise<void> {
  if (values.help) say(HELP);
  else if (values.replay === undefined) await runMany();
  else await replay(values.replay, Number(values.times));
}

async function replay(path: string, times: number): Promise<void> {
  const history = JSON.parse(await readFile(path, 'utf8')) as History;
  const servers = await Servers.start(history.shape);
  try {
    for (let time = 1; time <= times; time++) {
      const failure = await play(servers, history, new Tally());
      say(failure === null ? 'nothing wrong' : `step ${failure.step + 1}: ${failure.message}`);
      if (failure === null) continue;
      await report(servers, history, failure);
    }
  } finally {
    for (const line of await servers.crashes()) say(line);
    await servers.stop();
  }
}

async function runMany(): Promise<void> {
  const seed = Number(values.seed ?? Date.now() % 1_000_000);
  const steps = Number(values.steps);
  const kills = Number(values.kills ?? steps / 100);
  const length = Math.min(steps, Number(values.length));
  const shapes = values.shapes.split(',').map(parseShape);
  say(`seed ${seed}`);
  const total = new Tally();
  const startedAt = Date.now();
  const random = new Random(seed);
  for (const shape of shapes) {
    const share = steps / shapes.length;
    const servers = await Servers.start(shape);
    const tally = new Tally();
    try {
      while (tally.steps < share) {
        const history = generate({
          seed: random.below(1_000_000_000),
          shape,
          steps: length,
          calm: Number(values.calm),
          kills: Math.round((kills * length) / steps),
        });
        const failure = await play(servers, history, tally);
        progress(shape, tally, history, failure);
        if (failure === null) continue;
        tally.count(tally.failures, failure.kind);
        await report(servers, history, failure);
        if (!values['keep-going']) return;
      }
    } finally {
      for (const line of await servers.crashes()) say(line);
      await servers.stop();
      total.add(tally);
      say(`\n${shape.major} x ${shape.nodes}: ${tally.describe()}`);
    }
  }
  say(
    `\nin all, seed ${seed}, ${Math.round((Date.now() - startedAt) / 1000)} s: ${total.describe()}`,
  );
}

function progress(
  shape: Shape,
  tally: Tally,
  history: History,
  failure: HistoryFailure | null,
): void {
  const { steps, kills, diffs } = tally;
  const end = failure === null ? 'ok' : failure.message.split('\n')[0];
  const perStep = (tally.timeMs / Math.max(1, steps)).toFixed(1);
  say(
    `${new Date().toISOString()} ${shape.major}x${shape.nodes} history ${history.seed}: ${end}; ${steps} steps, ${kills} kills, ${diffs} diffs, ${perStep} ms a step`,
  );
}

async function report(servers: Servers, history: History, failure: HistoryFailure): Promise<void> {
  process.exitCode = 1;
  const path = values.out ?? `failed-history-${history.seed}.json`;
  await writeFile(`${path}.log`, lastLog.text);
  say(`step ${failure.step + 1} of history ${history.seed}: ${failure.stack ?? failure.message}`);
  const cut = { ...history, steps: history.steps.slice(0, failure.step + 1) };
  await writeFile(path, JSON.stringify(cut, null, 1));
  const timeMs = Number(values['shrink-seconds']) * 1000;
  if (timeMs === 0) return;
  const shrunk = await shrink(servers, history, failure, {
    timeMs,
    onProgress: (left) => say(`  shrunk to ${left} steps`),
  });
  await writeFile(path, JSON.stringify(shrunk.history, null, 1));
  say(`${shrunk.history.steps.length} steps after ${shrunk.replays} replays, in ${path}:\n`);
  say(describeHistory(shrunk.history));
  say(`\n${shrunk.failure.message}`);
}

function parseShape(text: string): Shape {
  const [major, nodes] = text.split('x').map(Number);
  if ((major !== 15 && major !== 16 && major !== 17 && major !== 18) || nodes === undefined) {
    throw new RangeError(`${text} is no shape: e.g. 18x3 is PostgreSQL 18 on three nodes`);
  }
  return { major, nodes };
}

process.once('SIGTERM', () => process.exit(1));
await main();
