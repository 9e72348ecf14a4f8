import { steadyNowMs } from '../base/clock.js';
import { AcedError } from '../base/errors.js';
import type { Config } from '../config/config.js';
import type { LeaseView } from '../lease/lease.js';
import type { Health, HealthReport } from '../observe/health.js';
import type {
  CommandContext,
  CommandName,
  CommandParams,
  CommandResults,
  CommandRunner,
  StatusProblem,
  StatusResult,
} from '../protocol/commands.js';
import { serversOf } from '../protocol/servers.js';
import type { Engine } from './engine.js';
import { VERSION } from './version.js';

/** What of the lease a standby shows. */
export interface LeaseWatch {
  readonly view: LeaseView;
}

/**
 * Whom the socket asks where there are several aced: answers for itself until it is active, and hands
 * everything on to its engine from then on.
 */
export class Standby implements CommandRunner, Health {
  readonly #config: Config;
  readonly #lease: LeaseWatch;
  readonly #startedAtMs = steadyNowMs();
  #engine: Engine | null = null;

  constructor(config: Config, lease: LeaseWatch) {
    this.#config = config;
    this.#lease = lease;
  }

  become(engine: Engine): void {
    this.#engine = engine;
  }

  async run<Name extends CommandName>(
    name: Name,
    params: CommandParams[Name],
    context: CommandContext,
  ): Promise<CommandResults[Name]> {
    if (this.#engine !== null) return this.#engine.run(name, params, context);
    if (name !== 'status') throw this.#refusal();
    const result = { ...this.#status(), servers: serversOf(this.#config.nodes) };
    // It is the command's result; the compiler cannot see it through Name.
    return Promise.resolve(result as CommandResults[CommandName] as CommandResults[Name]);
  }

  check(nowMs: number): HealthReport {
    if (this.#engine !== null) return this.#engine.health.check(nowMs);
    const { holder, error } = this.#lease.view;
    return { status: `standby, ${error ?? `active: ${holder ?? 'nobody'}`}`, problems: [] };
  }

  #refusal(): AcedError {
    const { holder } = this.#lease.view;
    const who = holder === null ? 'nobody is active yet' : `the active one is ${holder}`;
    return new AcedError('STANDBY', `this aced is a standby; ${who}`, {
      hint: 'Ask that one, on its host or with ACED_SOCKET.',
    });
  }

  #status(): StatusResult {
    const { cluster, nodes, slotName } = this.#config;
    const { holder, epoch } = this.#lease.view;
    return {
      cluster,
      daemon: true,
      pid: process.pid,
      version: VERSION,
      uptimeSeconds: Math.round((steadyNowMs() - this.#startedAtMs) / 1000),
      lease: { role: 'standby', holder, epoch },
      nodes: nodes.map(({ name, host, port, database }) => ({
        name,
        server: { host, port, database },
        state: 'stopped',
        position: null,
        lagBytes: null,
        heldBytes: null,
        slot: slotName,
        slotPid: null,
        error: null,
      })),
      subscriptions: [],
      conditions: [],
      tables: [],
      problems: this.#problems(),
    };
  }

  #problems(): StatusProblem[] {
    const { holder, error } = this.#lease.view;
    const message = error ?? (holder === null ? 'nobody is active' : null);
    return message === null ? [] : [{ kind: 'trouble', subject: 'lease', message }];
  }
}
