import type { Schedule } from './schedule.js';
import type { TableSettings } from './table-settings.js';

/**
 * The one configuration object: built once from service file or `<cluster>.json`, `aced.yaml`,
 * environment and flags, schema-checked and deep-frozen. Everything else receives it.
 */
export type SslMode = 'disable' | 'allow' | 'prefer' | 'require' | 'verify-ca' | 'verify-full';

export interface NodeConfig {
  /** The node's name in the cluster definition, e.g. `n1`. */
  readonly name: string;
  /** Host name, IPv4 or IPv6 address, or the directory of a unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** Absent: one is looked for in `passwordFiles` when the server wants it. */
  readonly password?: string;
  /** Absent: there is no need of one. */
  readonly passwordFiles?: readonly PasswordFile[];
  readonly sslMode: SslMode;
  readonly sslRootCert?: string;
  readonly sslCert?: string;
  readonly sslKey?: string;
  /** 0: no limit, as to libpq. */
  readonly connectTimeoutMs: number;
  /** How long the server waits for us to take what it sends before it ends a connection; 0: as the host says. */
  readonly tcpUserTimeoutMs: number;
}

export interface PasswordFile {
  readonly path: string;
  /**
   * Lies in a directory that systemd made for the service alone: the file is root's and has a list of
   * who may read it, whose mask looks like rights of the group.
   */
  readonly isCredential: boolean;
}

export interface Config {
  readonly cluster: string;
  /** In the order of the definition; names are unique. */
  readonly nodes: readonly NodeConfig[];
  /** Holds the SQLite file, its lock and the spool for reports. */
  readonly stateDir: string;
  readonly socketPath: string;
  /** Commands that the daemon runs at a time. */
  readonly maxCommands: number;
  readonly logLevel: string;
  /** Publication and slot are `aced_<cluster>` in every database (lower-cased, non [a-z0-9_] mapped to `_`, 63 bytes at most). */
  readonly publicationName: string;
  readonly slotName: string;
  /** Schema of our tables on the nodes. */
  readonly nodeSchema: string;
  readonly tree: {
    /** Rows per block that a build aims at. */
    readonly blockRows: number;
    /** Of one table, about: its blocks have more rows if there would be more. */
    readonly maxBlocks: number;
    /** Fraction of the ops host's cores' worth of concurrent hashing queries per node: 0.5 of 4 cores = 2. */
    readonly maxCpuRatio: number;
    /** Refresh a dirty block once it has been quiet for so long. */
    readonly refreshQuietMs: number;
    /** Share of one connection's time that background rehashing may use, 0 (none) to 1. */
    readonly refreshBudget: number;
    /** Memory for the digests of single rows, over all nodes and tables; 0 keeps none. */
    readonly rowDigestBytes: number;
    readonly catalogWatchMs: number;
  };
  readonly scrub: {
    /** Share of one connection's time for comparing leaves with tables, 0 (none) to 1. */
    readonly budget: number;
    /** A block is compared when its last proof is so old. */
    readonly intervalMs: number;
    /** A node with more active sessions is left alone. */
    readonly maxActiveBackends: number;
  };
  readonly diff: {
    readonly maxDiffRows: number;
    readonly compareUnitSize: number;
    readonly concurrencyFactor: number;
    /** How long rows may stay in flight before the diff gives up on settling them. */
    readonly settleTimeoutMs: number;
  };
  readonly stream: {
    /** Changes become durable (and are confirmed) at least so often while there are any. */
    readonly flushIntervalMs: number;
    readonly connectTimeoutMs: number;
    /** See NodeConfig. */
    readonly tcpUserTimeoutMs: number;
    /** How long a fence may take before a node counts as STARVED. */
    readonly fenceTimeoutMs: number;
    /** WAL that our slot may hold back on a node before it is dropped (the tree is rebuilt later). */
    readonly maxSlotWalBytes: number;
    /** Whether standbys are to copy our slot. */
    readonly failoverSlot: 'auto' | 'on' | 'off';
  };
  readonly drift: {
    /** Judge tracked tables all the time; only a daemon does. */
    readonly isEnabled: boolean;
    /** Memory for the rows whose changes have not been shown by all streams yet. */
    readonly openRowsBytes: number;
    /** Copy of the drift events, beside the log; null: none. */
    readonly eventsFile: string | null;
    /** Whether events name keys of rows. */
    readonly eventsHaveKeys: boolean;
  };
  /** Whom events are handed on to; null: nobody. Address and header are secrets. */
  readonly hooks: {
    readonly webhook: string | null;
    readonly authorization: string | null;
    readonly command: string | null;
  };
  /** Several aced for the cluster, one of which is active; null: there is one. */
  readonly standby: {
    /** Holds the lease. Its name is the section's. */
    readonly database: NodeConfig;
    /** Null: the host's name. */
    readonly name: string | null;
  } | null;
  readonly metrics: {
    /** Null: none but the unix socket. */
    readonly port: number | null;
    readonly host: string;
    /** Whether tables have series of their own. */
    readonly perTable: 'auto' | 'always' | 'never';
  };
  /** ACE's HTTP routes over TLS. Paths are absolute; null: not given. */
  readonly api: {
    /** Null: none but the unix socket. */
    readonly port: number | null;
    readonly host: string;
    readonly certFile: string | null;
    readonly keyFile: string | null;
    readonly clientCaFile: string | null;
    readonly clientCrlFile: string | null;
    /** Common names of certificates; `*`: every one. */
    readonly allowedNames: readonly string[];
  };
  /** Commands that the daemon runs by itself. */
  readonly schedule: Schedule & {
    /** Where it writes their reports. */
    readonly reportDir: string;
  };
  readonly canary: {
    /** A difference of our own is made and looked for so often; 0: only when asked for. */
    readonly intervalMs: number;
    /** It must be found in this time. */
    readonly timeoutMs: number;
  };
  /** What is said of single tables. */
  readonly tables: readonly TableSettings[];
  /** Tables that the daemon follows by itself. All lists empty: none. */
  readonly track: {
    /** See TablePattern; each may hold several, with commas between. */
    readonly include: readonly string[];
    readonly exclude: readonly string[];
    readonly publications: readonly string[];
    readonly replicationSets: readonly string[];
    /** Share of one connection's time per node for building trees. */
    readonly budget: number;
    readonly intervalMs: number;
  };
}

/** Returned with a Config: settings that were read and not understood, by file and key. */
export interface IgnoredSetting {
  readonly source: string;
  readonly key: string;
}

export function describeIgnored({ source, key }: IgnoredSetting): string {
  return `${source}: ${key} has no meaning here`;
}
