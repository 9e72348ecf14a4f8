import type { Config } from '../../src/config/config.js';
import type { CommandName, CommandParams, CommandResults } from '../../src/protocol/commands.js';

/** What the benchmark and the process that it measures say to each other. */
export type ChildRequest = { readonly id: number } & ChildWork;

export type ChildWork =
  | { readonly kind: 'open'; readonly config: Config; readonly mode: 'daemon' | 'command' }
  | {
      readonly kind: 'run';
      readonly name: CommandName;
      readonly params: CommandParams[CommandName];
      readonly reportDir: string;
      readonly inputPath?: string;
    }
  /** Streams from where the stored position is until `fence`, and makes that durable. */
  | { readonly kind: 'drain'; readonly config: Config; readonly fence: string }
  | { readonly kind: 'usage' }
  | { readonly kind: 'close' };

export type ChildAnswer =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly message: string };

export interface RunAnswer<Name extends CommandName = CommandName> {
  readonly result: CommandResults[Name];
  readonly ms: number;
  /** Of the whole process, background work included. */
  readonly cpuMs: number;
  /** Highest resident size during the command. */
  readonly peakMb: number;
}

export interface DrainAnswer {
  readonly ms: number;
  readonly cpuUs: number;
}
