import type { Verdict } from './commands.js';

/** How a row differs. Of a row that fewer than half of the nodes have, the few are wrong: `extra`. */
export type DriftKind = 'missing' | 'extra' | 'different';

/** Which nodes agree on a row, the larger groups first; nodes in the cluster's order. */
export type Agreement = readonly (readonly string[])[];

/**
 * What is known of the last write of the first row that was found to differ, on one node. Where the
 * node has no such row: of the transaction that took it away, if its stream has shown that.
 */
export interface LastWrite {
  /** Null: the node has no such row, and nobody knows since when. */
  readonly xid: string | null;
  readonly isRemoval: boolean;
  /** As the server prints it; null: unknown. */
  readonly commitTime: string | null;
  /** `local`, the name of a node or origin, or null: unknown. */
  readonly origin: string | null;
}

/**
 * Why a table was looked at: rows that the streams have shown changed, a change that names no row
 * (TRUNCATE, a gap), or everything at the start, when nobody can tell since when.
 */
export type DriftTrigger = 'change' | 'whole_table';

/**
 * - `local_write`: one node wrote the row last, and no other one has what it wrote.
 * - `conflict`: several nodes wrote the row themselves, and each kept its own.
 * - `foreign_origin`: a row was written under a replication origin that is no subscription's: peers with
 *   `origin = none` never got it.
 * - `altered`: another node applied what the writer wrote, and has something else: a trigger, or other
 *   columns.
 * - `lacking`: some nodes lack what the writer shares with others: it was never applied there, or undone.
 * - `truncate`: a node was emptied by a TRUNCATE, which the others have not done.
 * - `unknown`: commit times are not recorded everywhere, or they do not tell.
 */
export type DriftCause =
  'local_write' | 'conflict' | 'foreign_origin' | 'altered' | 'lacking' | 'truncate' | 'unknown';

/** What was known when an incident was opened. */
export interface BirthCertificate {
  readonly trigger: DriftTrigger;
  readonly cause: DriftCause;
  /** From the last commit of the first row to its finding; null: not known. */
  readonly detectedAfterMs: number | null;
  /** Node -> position in its log that the finding holds at. */
  readonly positions: Readonly<Record<string, string>>;
  /** Node -> the last write of the first row. */
  readonly lastWrites: Readonly<Record<string, LastWrite>>;
  /**
   * What the subscriptions' own counters say happened about then, e.g. `sub confl_update_missing +1 on
   * n2`, of any table. They may tell why; they decide nothing. Filled within seconds.
   */
  readonly hints: readonly string[];
}

/** Rows of one table that differ although replication has passed them; at most one open at a time. */
export interface Incident {
  readonly id: string;
  readonly table: string;
  /** Counts the events of the incident, from 1: with the id it names one of them. */
  readonly revision: number;
  readonly openedAtMs: number;
  readonly certificate: BirthCertificate;
  readonly acknowledgedBy: string | null;
}

/** What an incident is at a moment, for events and for people. */
export interface IncidentState extends Incident {
  readonly kind: DriftKind | 'mixed';
  readonly rows: number;
  readonly missing: number;
  readonly extra: number;
  readonly different: number;
  /** Of most rows. */
  readonly agreement: Agreement;
  /** Keys that joined last, ten at most. */
  readonly keys: readonly (readonly string[])[];
}

/** What the daemon says of a table at a moment. */
export interface LiveVerdict {
  readonly verdict: Verdict;
  readonly sinceMs: number;
  /** Null where the verdict says it all. */
  readonly reason: string | null;
  /** Node -> how far its stream has been applied: what is said holds at these positions. */
  readonly positions: Readonly<Record<string, string>>;
  /** Rows and blocks that not all streams have shown alike yet. */
  readonly openRows: number;
  /** Id of the open incident; null: none. */
  readonly incident: string | null;
}

/**
 * - `replication_starved`: a node is down, or a subscription of the user's does not deliver.
 * - `schema_mismatch`: a table is not the same on all nodes.
 * - `slot_lags`: our slot holds back much write-ahead log.
 * - `coverage`: something is not verified, although it should be.
 */
export type ConditionKind = 'replication_starved' | 'schema_mismatch' | 'slot_lags' | 'coverage';

export type ConditionAbout =
  'table' | 'node' | 'subscription' | 'pattern' | 'pair' | 'replication_set' | 'canary';

/** Something that holds for a while and keeps aced from vouching for what it should. */
export interface Condition {
  readonly kind: ConditionKind;
  readonly about: ConditionAbout;
  /** Names the condition with `kind` and `about`: a table, a node, `n1 -> n2`, a pattern. */
  readonly subject: string;
  /** For people. Nothing that changes all the time: a new reason is a new event. */
  readonly reason: string;
  /** What else an event has: names and numbers. */
  readonly facts: Readonly<Record<string, string | number | null>>;
}

/** A condition that has been told. */
export interface OpenCondition extends Condition {
  readonly id: string;
  /** Counts its events, from 1. */
  readonly revision: number;
  readonly sinceMs: number;
}

export interface TableVerdict extends LiveVerdict {
  readonly table: string;
}

/** Node -> from the commit of a row of our own there to its being found, in ms; null: it was not. */
export interface CanaryResult {
  readonly foundAfterMs: Readonly<Record<string, number | null>>;
}

export interface DriftListResult {
  /** Also those that should be followed and are not: a pattern names them. */
  readonly tables: readonly TableVerdict[];
  readonly incidents: readonly IncidentState[];
}
