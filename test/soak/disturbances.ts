import { setTimeout as delay } from 'node:timers/promises';
import type { Config } from '../../src/config/config.js';
import { Random } from '../history/random.js';
import { EngineProcess } from '../support/engine-process.js';
import type { Mesh } from '../support/mesh.js';
import { idleRow, type SoakWriters } from './writers.js';

export interface DisturbanceCounts {
  kills: number;
  pauses: number;
  /** Of the daemon, in order. */
  daemonRestarts: number;
  restarts: number;
  crashes: number;
  largeTransactions: number;
  conflicts: number;
  /** Rows that did differ, made on purpose, and those of them that were told, and told to be equal again. */
  made: number;
  told: number;
  slowestMs: number;
}

/** Waits for an event about the row; false: it did not come in time. */
export type AwaitEvent = (event: string, row: number) => Promise<boolean>;

const LARGE_ROWS = 20_000;

/** What goes on beside the writes: nothing of it makes rows differ for good. */
export class Disturbances {
  readonly counts: DisturbanceCounts = {
    kills: 0,
    pauses: 0,
    daemonRestarts: 0,
    restarts: 0,
    crashes: 0,
    largeTransactions: 0,
    conflicts: 0,
    made: 0,
    told: 0,
    slowestMs: 0,
  };
  readonly #mesh: Mesh;
  readonly #config: Config;
  readonly #random: Random;
  readonly #isTold: AwaitEvent;
  #daemon: EngineProcess | null = null;

  constructor(mesh: Mesh, config: Config, seed: number, isTold: AwaitEvent) {
    this.#mesh = mesh;
    this.#isTold = isTold;
    this.#config = config;
    this.#random = new Random(seed);
  }

  async start(): Promise<void> {
    this.#daemon = await EngineProcess.start({ config: this.#config });
  }

  async stop(): Promise<void> {
    await this.#daemon?.kill();
    this.#daemon = null;
  }

  /** One after the other until the time is over, with pauses of up to 4 s. */
  async run(untilMs: number, writers: SoakWriters): Promise<void> {
    while (Date.now() < untilMs) {
      const dice = this.#random.between(0, 99);
      if (dice < 30) await this.#kill();
      else if (dice < 35) await this.#restartDaemon();
      else if (dice < 63) await this.#pause(6_000);
      else if (dice < 65) await this.#pause(40_000);
      else if (dice < 68) await this.#restart('fast');
      else if (dice < 70) await this.#restart('immediate');
      else if (dice < 80) await this.differ();
      else if (dice < 88) await this.#large(writers);
      else await this.#conflict(writers);
      await delay(this.#random.between(200, 4_000));
    }
  }

  /** The end of the daemon's log. */
  get log(): string {
    return this.#daemon?.log ?? '';
  }

  /** That nothing is told means something only where what differs is told. */
  async differ(): Promise<void> {
    const row = idleRow(this.counts.made++);
    const startedAtMs = performance.now();
    await this.#mesh.driftSql('n2', `UPDATE items SET v = v + 1 WHERE id = ${row}`);
    const isFound = await this.#isTold('drift_opened', row);
    const tookMs = Math.round(performance.now() - startedAtMs);
    this.counts.slowestMs = Math.max(this.counts.slowestMs, tookMs);
    await this.#mesh.driftSql('n2', `UPDATE items SET v = v - 1 WHERE id = ${row}`);
    if (isFound && (await this.#isTold('drift_resolved', row))) this.counts.told++;
    else console.log(`row ${row} was not told in ${tookMs} ms:\n${this.log}`);
  }

  async #kill(): Promise<void> {
    this.counts.kills++;
    await this.#daemon?.kill();
    await delay(this.#random.between(0, 2_000));
    await this.start();
  }

  async #restartDaemon(): Promise<void> {
    this.counts.daemonRestarts++;
    await this.#daemon?.end();
    await this.start();
  }

  /** Seconds of lag on one way, or on two. */
  async #pause(maxMs: number): Promise<void> {
    const ways = Array.from({ length: this.#random.between(1, 2) }, () => this.#way());
    this.counts.pauses += ways.length;
    try {
      for (const [from, to] of ways) await this.#mesh.pauseReplication(from, to);
      await delay(this.#random.between(500, maxMs));
    } finally {
      for (const [from, to] of ways) await this.#mesh.resumeReplication(from, to);
    }
  }

  /** `immediate` is a crash. After a checkpoint, so that the server is back within seconds. */
  async #restart(mode: 'fast' | 'immediate'): Promise<void> {
    if (mode === 'fast') this.counts.restarts++;
    else this.counts.crashes++;
    const name = this.#random.pick(this.#mesh.names);
    await this.#mesh.query(name, 'CHECKPOINT');
    await this.#mesh.node(name).restart(mode);
  }

  async #large(writers: SoakWriters): Promise<void> {
    this.counts.largeTransactions++;
    await writers.writeLarge(this.#random.pick(this.#mesh.names), LARGE_ROWS);
  }

  /** Two nodes write the same rows at once, and mean the same. */
  async #conflict(writers: SoakWriters): Promise<void> {
    this.counts.conflicts++;
    const [one, other] = this.#way();
    await writers.writeAlike([one, other], this.counts.conflicts);
  }

  #way(): [string, string] {
    const { names } = this.#mesh;
    const from = this.#random.pick(names);
    return [from, this.#random.pick(names.filter((name) => name !== from))];
  }
}
