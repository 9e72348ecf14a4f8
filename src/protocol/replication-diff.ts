import type { StructureDifference } from './schema-diff.js';

/** A subscription between two of the nodes as it is set up and as it runs. */
export interface SubscriptionFacts {
  readonly name: string;
  readonly kind: 'native' | 'spock';
  readonly from: string;
  readonly to: string;
  /** `running`: enabled, and its slot is streamed from. */
  readonly state: 'running' | 'down' | 'disabled';
  readonly settings: Readonly<Record<string, string | null>>;
}

export interface ReplicationDiffResult {
  readonly nodes: readonly string[];
  readonly subscriptions: readonly SubscriptionFacts[];
  /** What is not the same on all nodes that publish; of subscriptions: keyed by `n1 → n2`. */
  readonly differences: readonly StructureDifference[];
  /** What does not run, or cannot do what it is set up for. */
  readonly problems: readonly { readonly subject: string; readonly message: string }[];
  /** Nodes whose settings the role may not read, with the statements that would let it. */
  readonly hidden: readonly { readonly node: string; readonly grant: string }[];
  readonly warnings: readonly string[];
  readonly timeTakenMs: number;
}
