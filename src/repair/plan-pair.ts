import type { Session } from '../postgres/session.js';
import { originNodes, writerOf } from '../replication/topology.js';
import { LookFirst, type Decided } from './decided-rows.js';
import type { Ruling } from './decision.js';
import { inParts, type Expectation, type ExpectedRows } from './expectation.js';
import type { OwnWrites } from './own-writes.js';
import {
  hasCommitTimes,
  infoOf,
  poolOf,
  sqlOf,
  valueHasher,
  type RepairRun,
} from './repair-run.js';
import type { TablePlan } from './plan-file.js';
import { planError } from './plan-file.js';
import { PairPlan, type Metadata, type PlanFacts } from './plan-rules.js';
import { kindOf } from './plan-values.js';
import { ReadSession } from './read-session.js';
import { writtenColumns, type NumberedKey } from './repair-sql.js';
import type { RepairPair } from './request.js';

/** So many rows are ruled in one go. */
const RULED_ROWS = 5_000;
/** Rows that a plan makes up are held until they are written. */
const MAX_CUSTOM_CHARS = 128 * 1024 * 1024;

/** By the place of the key: what becomes of the rows of the pair's source and of its target. */
export interface PairRulings {
  readonly source: ReadonlyMap<number, Ruling>;
  readonly target: ReadonlyMap<number, Ruling>;
  /** Rule -> rows. */
  readonly matches: ReadonlyMap<string, number>;
}

export interface PlanWork {
  readonly pair: RepairPair;
  readonly plan: TablePlan;
  /** The plan says something of commit times or origins. */
  readonly usesMetadata: boolean;
  readonly expectations: ExpectedRows;
  readonly ownWrites: OwnWrites | null;
}

/**
 * Rules every row of a pair before any is written: what becomes of it on one node may hang on what
 * it is on the other. Errors: BAD_USAGE for a plan that cannot be carried out.
 */
export async function rulePair(run: RepairRun, work: PlanWork): Promise<PairRulings> {
  const { signal } = run.context;
  const { source, target } = work.pair;
  return poolOf(run, source).use(
    (first) =>
      poolOf(run, target).use(
        (second) => new PairRuler(run, work, { first, second }).rule(),
        signal,
      ),
    signal,
  );
}

interface Sessions {
  readonly first: Session;
  readonly second: Session;
}

class PairRuler {
  readonly #run: RepairRun;
  readonly #work: PlanWork;
  readonly #plan: PairPlan;
  readonly #readers: readonly [ReadSession, ReadSession];
  readonly #sessions: Sessions;
  readonly #source = new Map<number, Ruling>();
  readonly #target = new Map<number, Ruling>();
  readonly #matches = new Map<string, number>();
  #customChars = 0;

  constructor(run: RepairRun, work: PlanWork, sessions: Sessions) {
    this.#run = run;
    this.#work = work;
    this.#sessions = sessions;
    this.#readers = [new ReadSession(sessions.first), new ReadSession(sessions.second)];
    this.#plan = new PairPlan(work.plan, factsOf(run, work.pair));
  }

  async rule(): Promise<PairRulings> {
    const { pair, ownWrites, expectations } = this.#work;
    const run = this.#run;
    const looking = new LookFirst({
      ...{ source: this.#readers[0], targetReader: this.#readers[1] },
      sql: sqlOf(run, { node: pair.target, peer: pair.source }),
      values: valueHasher(run, pair.target),
      withValues: true,
      rulingOf: () => LOOK,
      ...{ peer: pair.source, node: pair.target, ownWrites, signal: run.context.signal },
    });
    for (const keys of inParts(expectations.entries(), RULED_ROWS)) {
      const decided = await looking.look(keys);
      const metadata = await this.#metadata(keys);
      for (const row of decided) this.#ruleRow(row, metadata);
    }
    return { source: this.#source, target: this.#target, matches: this.#matches };
  }

  #ruleRow(row: Decided, metadata: readonly ReadonlyMap<number, Metadata>[]): void {
    const { number, expectation, source, target, decision } = row;
    const { place, key } = expectation;
    if (decision === 'equal') {
      this.#target.set(place, LOOK);
      return;
    }
    const [first = NO_METADATA, second = NO_METADATA] = metadata.map((of) => of.get(number));
    const rows = [source?.values ?? null, target?.values ?? null] as const;
    const { name, sides } = this.#plan.rule({ key, rows, metadata: [first, second] });
    const isStale = decision !== 'left';
    const appliesAll = this.#run.params.stale === 'apply';
    const [ofSource, ofTarget] = sides.map((ruling) =>
      ruling === null ? null : { ...ruling, appliesToStale: ruling.appliesToStale || appliesAll },
    );
    const applies = ofSource ?? ofTarget;
    if (isStale && applies?.appliesToStale !== true) {
      this.#target.set(place, LOOK);
      return;
    }
    this.#matches.set(name, (this.#matches.get(name) ?? 0) + 1);
    if (ofSource != null) this.#source.set(place, this.#held(ofSource));
    if (ofTarget != null) this.#target.set(place, this.#held(ofTarget));
  }

  #held(ruling: Ruling): Ruling {
    if (ruling.wish.kind !== 'merge') return ruling;
    const values = ruling.wish.merge({ source: null, target: null })?.values ?? [];
    this.#customChars += values.reduce((sum, value) => sum + (value?.length ?? 0), 0);
    if (this.#customChars > MAX_CUSTOM_CHARS) {
      throw planError('the repair plan makes up more rows than can be held: split it by pk_in');
    }
    return ruling;
  }

  /** When and where from the rows were written last, of both nodes, by the number of the key. */
  async #metadata(keys: readonly Expectation[]): Promise<ReadonlyMap<number, Metadata>[]> {
    if (!this.#work.usesMetadata) return [new Map(), new Map()];
    const { source, target } = this.#work.pair;
    const numbered = keys.map(({ key }, number) => ({ number, key }));
    const { first, second } = this.#sessions;
    return [
      await this.#writersOf(source, first, numbered),
      await this.#writersOf(target, second, numbered),
    ];
  }

  async #writersOf(
    node: string,
    session: Session,
    keys: readonly NumberedKey[],
  ): Promise<ReadonlyMap<number, Metadata>> {
    if (!(await hasCommitTimes(session))) return new Map();
    const sql = sqlOf(this.#run, { node, peer: node });
    const rows = await new ReadSession(session).read((open) =>
      open.query(sql.writers(), sql.keyParams(keys), this.#run.context.signal),
    );
    const { edges, spockNodes } = this.#run.replication.topology;
    const origins = new Map([...spockNodes, ...originNodes(edges, node)]);
    return new Map(
      rows.map(([number, time = null, origin = null]) => [
        Number(number),
        { commit_ts: time, node_origin: writerOf(origin, origins) },
      ]),
    );
  }
}

/** Nothing is to be done, or nobody may know any more what: the row is looked at again and told. */
const LOOK: Ruling = { wish: { kind: 'leave' }, appliesToStale: false };
const NO_METADATA: Metadata = { commit_ts: null, node_origin: null };

function factsOf(run: RepairRun, { source, target }: RepairPair): PlanFacts {
  const { spec, config } = run;
  const columns = writtenColumns(spec, infoOf(run, target));
  return {
    pair: [source, target],
    clusterNodes: config.nodes.map(({ name }) => name),
    columns: columns.map(({ name, baseTypeOid }) => ({ name, kind: kindOf(baseTypeOid) })),
    keyColumns: spec.key.map(({ name }) => name),
  };
}
