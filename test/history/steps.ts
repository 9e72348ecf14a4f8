import type { FailpointName } from '../../src/base/failpoint.js';
import type { PostgresMajor } from '../support/postgres.js';

/**
 * One step of a history. Each stands alone: a statement that fails is a step without effect, so any
 * part of a history can be replayed. `label` names the kind in the summary.
 */
export type Step = { readonly label: string } & (
  | {
      /** Replicated as any application's. */
      readonly kind: 'write';
      readonly node: string;
      readonly sql: string;
    }
  | {
      /** Stays on this node, as real drift does. */
      readonly kind: 'drift';
      readonly node: string;
      readonly sql: string;
    }
  | {
      /** At rest: open transactions are ended, replication has caught up. No nodes: on all. */
      readonly kind: 'define';
      readonly nodes: readonly string[];
      readonly sql: string;
    }
  | {
      readonly kind: 'open';
      readonly node: string;
      readonly sql: string;
    }
  | {
      /** Ends what `open` left open on this node. */
      readonly kind: 'close';
      readonly node: string;
      readonly how: 'COMMIT' | 'ROLLBACK';
    }
  | { readonly kind: 'pause'; readonly from: string; readonly to: string }
  | { readonly kind: 'resume' }
  | {
      /** At rest: the subscriptions learn of new partitions. */
      readonly kind: 'refresh';
    }
  | {
      readonly kind: 'check';
      readonly tables: readonly string[];
      readonly method: 'mtree-table-diff' | 'table-diff';
    }
  | {
      /** A diff while these are written, all again and again; the writes converge. */
      readonly kind: 'busy check';
      readonly table: string;
      readonly writes: readonly { readonly node: string; readonly sql: string }[];
    }
  | {
      /** `mtree verify` while these are written: no leaf may be found wrong. */
      readonly kind: 'verify';
      readonly table: string;
      readonly writes: readonly { readonly node: string; readonly sql: string }[];
    }
  | {
      /** By `table-repair`, from the file of the table's last check. */
      readonly kind: 'repair';
      readonly table: string;
      readonly source: string;
    }
  | {
      /** By plain SQL: the table gets the source's rows on all other nodes. */
      readonly kind: 'heal';
      readonly table: string;
      readonly source: string;
    }
  | {
      /** SIGKILL to the daemon, while these are written; started again at once. */
      readonly kind: 'kill';
      readonly delayMs: number;
      readonly writes: readonly { readonly node: string; readonly sql: string }[];
      /** A diff of this table is running then. */
      readonly diff: string | null;
      /** The one started next dies there. */
      readonly failpoint: { readonly name: FailpointName; readonly hit: number } | null;
    }
  | {
      readonly kind: 'restart server';
      readonly node: string;
      readonly mode: 'fast' | 'immediate' | 'kill';
    }
  | {
      /** The daemon is killed; its leaves are compared with what SQL says of the blocks. */
      readonly kind: 'leaves';
    }
);

export interface Shape {
  readonly major: PostgresMajor;
  readonly nodes: number;
}

/** What is needed to play a history; a replay file is this as JSON. */
export interface History {
  readonly seed: number;
  readonly shape: Shape;
  /** Names of the kit in tables.ts. */
  readonly tables: readonly string[];
  /** The daemon's environment. */
  readonly settings: Readonly<Record<string, string>>;
  readonly steps: readonly Step[];
}

/** A step as a person would type it. */
export function describeStep(step: Step): string {
  switch (step.kind) {
    case 'write':
      return `${step.node}: ${step.sql};`;
    case 'drift':
      return `${step.node} only: ${step.sql};`;
    case 'define':
      return `${step.nodes.length === 0 ? 'all' : step.nodes.join(', ')}, at rest: ${step.sql};`;
    case 'open':
      return `${step.node}, left open: BEGIN; ${step.sql};`;
    case 'close':
      return `${step.node}, what was left open: ${step.how};`;
    case 'pause':
      return `${step.to}: ALTER SUBSCRIPTION (from ${step.from}) DISABLE;`;
    case 'resume':
      return 'all: ALTER SUBSCRIPTION ENABLE;';
    case 'refresh':
      return 'all, at rest: ALTER SUBSCRIPTION REFRESH PUBLICATION WITH (copy_data = false);';
    case 'check':
      return `check: ${step.method} ${step.tables.join(' ')}`;
    case 'busy check':
      return `check under load: mtree-table-diff ${step.table}${written(step.writes)}`;
    case 'verify':
      return `check under load: mtree verify ${step.table}${written(step.writes)}`;
    case 'repair':
      return `table-repair ${step.table} --source-of-truth ${step.source}`;
    case 'heal':
      return `heal by SQL: ${step.table} from ${step.source}`;
    case 'kill': {
      const { failpoint, diff, delayMs } = step;
      const during = diff === null ? '' : ` in mtree-table-diff ${diff}`;
      const next =
        failpoint === null ? '' : `; the next dies at ${failpoint.name}:${failpoint.hit}`;
      return `kill -9 aced after ${delayMs} ms${during}${next}${written(step.writes)}`;
    }
    case 'restart server':
      return `${step.node}: server restart, ${step.mode}`;
    case 'leaves':
      return 'check: the leaves of the killed daemon against the tables';
  }
}

function written(writes: readonly { readonly node: string; readonly sql: string }[]): string {
  return writes.map(({ node, sql }) => `\n    while ${node}: ${sql};`).join('');
}
