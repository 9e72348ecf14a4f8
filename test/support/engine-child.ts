import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { createLogger } from '../../src/base/log.js';
import { AcedError, errorMessage } from '../../src/base/errors.js';
import type { Config } from '../../src/config/config.js';
import { Engine } from '../../src/commands/engine.js';
import type { CommandName, CommandParams } from '../../src/protocol/commands.js';

/**
 * A daemon's engine in a process of its own, for tests that kill it. Argument: a file with a Config
 * as JSON. Reads one JSON request a line, `{id, command, params}`; answers `{id, result}` or
 * `{id, error}`; says `{event: 'open'}` first. Ends in order when its input ends.
 */
interface Request {
  readonly id: number;
  readonly command: CommandName;
  readonly params: CommandParams[CommandName];
}

const [configPath = ''] = process.argv.slice(2);
const config = JSON.parse(readFileSync(configPath, 'utf8')) as Config;
const say = (message: unknown): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`);
};

const engine = await Engine.open(config, {
  log: createLogger(config.logLevel, process.stderr),
  mode: 'daemon',
});
say({ event: 'open' });

const requests = createInterface({ input: process.stdin });
requests.on('line', (line) => {
  void answer(JSON.parse(line) as Request);
});
requests.on('close', () => {
  void engine.close();
});

async function answer({ id, command, params }: Request): Promise<void> {
  try {
    const result = await engine.run(command, params, {
      signal: new AbortController().signal,
      emit: () => undefined,
      reportDir: config.stateDir,
    });
    say({ id, result });
  } catch (error) {
    say({
      id,
      error: {
        code: error instanceof AcedError ? error.code : 'INTERNAL',
        message: errorMessage(error),
      },
    });
  }
}
