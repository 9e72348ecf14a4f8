import { sleep, throwIfAborted } from '../base/abort.js';
import { AcedError } from '../base/errors.js';
import { readDiffRows } from '../diff-file/diff-reader.js';
import { keyTextsOf, textOfJson, type DiffFileRow } from '../diff-file/file-row.js';
import type { Session } from '../postgres/session.js';
import { hasSqlState, SQLSTATE } from '../postgres/sqlstate.js';
import type { RepairReportWriter } from '../report/repair-report.js';
import { COPIES_COLUMN, ROW_COLUMN } from '../table/multiset.js';
import { digestId } from '../table/table-spec.js';
import { withTarget, type NodeRepair, type OpenedTarget } from './pair-repair.js';
import { ReadSession } from './read-session.js';
import { columnsOf, infoOf, poolOf, sqlOf, type RepairRun } from './repair-run.js';
import type { RepairSql } from './repair-sql.js';
import type { RepairPair, RepairWay } from './request.js';
import type { RowChange } from './row-changes.js';
import { RowSums } from './row-sums.js';
import { noCounts, type RepairCounts } from './target-repair.js';
import type { TargetSession } from './target-session.js';
import { beforeOf } from './undo-file.js';

/** So many contents are counted in one pass over the table, and repaired in one transaction. */
const CONTENTS_AT_ONCE = 5_000;
/** Nobody else may write to the table while its copies are counted: so long, and no longer. */
const COUNT_TIMEOUT_MS = 2_000;
const LOCK_ATTEMPTS = 20;
const LOCK_RETRY_MS = 250;

type Texts = readonly (string | null)[];

/** What a row of a table without a key says, and how often each side has it. */
interface Content {
  /** Signed decimal. */
  readonly digest: string;
  /** As the file has it: on the node that is written, and on the one whose rows are right. */
  readonly here: number;
  readonly there: number;
}

/** As many copies as the other side has, and their values. */
interface Original {
  readonly count: number;
  readonly values: Texts;
}

type Originals = ReadonlyMap<string, Original>;

interface CopiesWork {
  readonly way: RepairWay;
  readonly pair: RepairPair;
  readonly report: RepairReportWriter | null;
}

/**
 * What cannot be done to a table without a key. Errors: UNSUPPORTED, BAD_DIFF_FILE, before anything is
 * written.
 */
export function checkCopies(
  { spec, file, path, seedId, params, leftOut }: RepairRun,
  way: RepairWay,
): void {
  const refused = {
    '--fix-nulls': way.kind === 'fix-nulls',
    '--repair-plan': way.kind === 'plan',
    '--preserve-origin': params.preserveOrigin === true,
    '--stale': params.stale !== undefined && params.stale !== 'skip',
  };
  for (const [flag, isGiven] of Object.entries(refused)) {
    if (!isGiven) continue;
    throw new AcedError(
      'UNSUPPORTED',
      `${flag} is about single rows, and ${spec.name} has no key to tell them apart`,
      {
        hint: 'Leave it out: each content becomes as often there as on the source of truth. Or repair from a diff with --key.',
      },
    );
  }
  const uncompared = spec.excluded.filter(({ cause }) => cause !== 'generated');
  const lost = [...uncompared, ...leftOut].map(({ name }) => name);
  if (lost.length > 0) {
    throw new AcedError(
      'UNSUPPORTED',
      `${spec.name} has no key, and copies of a row may differ in what was not compared: ${lost.join(', ')}`,
      { hint: 'Diff all columns, or with --key, and repair from that file.' },
    );
  }
  if (file.head.seedId === digestId(seedId, spec)) return;
  throw new AcedError(
    'BAD_DIFF_FILE',
    `${path} was written with another state directory, or other columns`,
    {
      hint: `Its ${ROW_COLUMN} means nothing here: run the diff again.`,
    },
  );
}

/**
 * Makes contents as often there as on the source; both ways, as on the node that has more of them. Copies
 * cannot be told apart, so what is guarded is their number: it must be the file's on the source, and on
 * the target while nobody else may write to the table.
 */
export async function repairCopies(run: RepairRun, work: CopiesWork): Promise<NodeRepair[]> {
  const { source, target } = work.pair;
  if (work.way.kind === 'undo') return [await undoCopies(run, work)];
  const there = await repairSide(run, work, { node: target, peer: source });
  if (work.way.kind === 'source') return [there];
  return [there, await repairSide(run, work, { node: source, peer: target })];
}

async function repairSide(
  run: RepairRun,
  { way, pair, report }: CopiesWork,
  { node, peer }: { readonly node: string; readonly peer: string },
): Promise<NodeRepair> {
  const mayDelete = way.kind === 'source' && way.mode.deletes;
  const contents = await readContents(run, pair.name, { here: node, there: peer });
  const sql = sqlOf(run, { node, peer }).texts;
  return poolOf(run, peer).use(async (session) => {
    const reader = new ReadSession(session);
    const originals = (part: readonly Content[]): Promise<Originals> =>
      reader.read(async (reading) =>
        originalsOf(await reading.query(sql.copies(), [digestsOf(part)])),
      );
    return withTarget(run, { node, report }, (opened) =>
      new NodeCopies(run, { ...opened, node, peer, sql, originals, mayDelete }).repair(contents),
    );
  }, run.context.signal);
}

/** The file stands for the source: what it says was there cannot have changed. */
async function undoCopies(run: RepairRun, { pair, report }: CopiesWork): Promise<NodeRepair> {
  const node = pair.target;
  const before = beforeOf(node);
  const name = `${node}/${before}`;
  const contents = await readContents(run, name, { here: node, there: before });
  const columns = columnsOf(run.spec, infoOf(run, node)).map((column) => column.name);
  const originals = async (part: readonly Content[]): Promise<Originals> => {
    const wanted = new Set(digestsOf(part));
    const found = new Map<string, Original>();
    for await (const batch of readDiffRows(run.path, { pairs: [name] })) {
      for (const row of batch.node === before ? batch.rows : []) {
        const { digest, copies } = contentOf(row, run.path);
        if (!wanted.has(digest)) continue;
        const values = columns.map((column) => {
          const raw = row.values[row.columns.indexOf(column)];
          return raw === undefined || raw === 'null' ? null : textOfJson(raw);
        });
        found.set(digest, { count: copies, values });
      }
    }
    return found;
  };
  const sql = sqlOf(run, { node, peer: node }).texts;
  const peer = 'the undo file';
  return withTarget(run, { node, report }, (opened) =>
    new NodeCopies(run, { ...opened, node, peer, sql, originals, mayDelete: true }).repair(
      contents,
    ),
  );
}

interface NodeCopiesOptions extends OpenedTarget {
  readonly node: string;
  readonly peer: string;
  readonly sql: RepairSql;
  readonly originals: (part: readonly Content[]) => Promise<Originals>;
  readonly mayDelete: boolean;
}

/** How often contents are on a node, and where: OID of the table or partition -> places. */
type Places = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

/** A content that is to be changed, with where it is now. */
interface Change extends Content {
  readonly values: Texts;
  readonly places: ReadonlyMap<string, readonly string[]>;
}

class NodeCopies {
  readonly #run: RepairRun;
  readonly #options: NodeCopiesOptions;
  readonly #counts: RepairCounts = noCounts();
  readonly #sums = new RowSums();
  readonly #skipped = { here: 0, there: 0, locked: 0 };

  constructor(run: RepairRun, options: NodeCopiesOptions) {
    this.#run = run;
    this.#options = options;
  }

  async repair(contents: readonly Content[]): Promise<Omit<NodeRepair, 'node' | 'files'>> {
    const { node, mayDelete } = this.#options;
    const { context } = this.#run;
    const wanted = contents.filter(({ here, there }) => there > here || mayDelete);
    this.#counts.left += contents.length - wanted.length;
    for (let done = 0; done < wanted.length; done += CONTENTS_AT_ONCE) {
      throwIfAborted(context.signal);
      await this.#part(wanted.slice(done, done + CONTENTS_AT_ONCE));
      const phase = `Repairing ${node}`;
      context.emit({
        type: 'progress',
        phase,
        done: Math.min(done + CONTENTS_AT_ONCE, wanted.length),
        total: wanted.length,
      });
    }
    const { here, there, locked } = this.#skipped;
    this.#counts.skipped = here + there + locked;
    return { counts: this.#counts, failedRows: [], sums: this.#sums, warnings: this.#warnings() };
  }

  async #part(part: readonly Content[]): Promise<void> {
    const { target, session, originals, changes } = this.#options;
    const found = await originals(part);
    const vanishing = changes === null ? [] : part.filter(({ there }) => there === 0);
    const known = await this.#valuesHere(vanishing);
    const asBefore = part.filter(({ digest, there }) => (found.get(digest)?.count ?? 0) === there);
    this.#skipped.there += part.length - asBefore.length;
    const fit = await this.#fitting(asBefore, found);
    const changed =
      target === null
        ? await new ReadSession(session).read(async (reading) =>
            this.#meant(fit, found, await this.#places(reading, fit)),
          )
        : await this.#write(target, fit, found);
    for (const one of changed) {
      const { digest, here, there } = one;
      this.#counts.upserted += Math.max(0, there - here);
      this.#counts.deleted += Math.max(0, here - there);
      const total = (copies: number): string => String(BigInt(digest) * BigInt(copies));
      this.#sums.add({ before: total(here), after: total(there) });
    }
    await changes?.(changed.map((one) => rowChange(one, known.get(one.digest)?.values)));
  }

  /** What is to be deleted altogether, as the report and the undo file need it. */
  async #valuesHere(part: readonly Content[]): Promise<Originals> {
    if (part.length === 0) return new Map();
    const { session, sql } = this.#options;
    const reader = new ReadSession(session);
    return reader.read(async (reading) =>
      originalsOf(await reading.query(sql.copies(), [digestsOf(part)])),
    );
  }

  /** Those whose values the target would hold as they are meant. */
  async #fitting(part: readonly Content[], found: Originals): Promise<readonly Content[]> {
    const { session, sql } = this.#options;
    const rows = part.flatMap(({ digest, here, there }, number) =>
      there > here ? [{ number, values: found.get(digest)?.values ?? [] }] : [],
    );
    if (rows.length === 0) return part;
    const held = new Map(
      (
        await new ReadSession(session).read((reading) =>
          reading.query(sql.digests(), sql.valueParams(rows)),
        )
      ).map(([number, digest]) => [Number(number), digest]),
    );
    const fit = part.filter(
      ({ digest }, number) => !held.has(number) || held.get(number) === digest,
    );
    this.#counts.failed += part.length - fit.length;
    return fit;
  }

  /** One transaction. Errors: UNSUPPORTED when the table is too large to be counted while nobody writes. */
  async #write(
    target: TargetSession,
    part: readonly Content[],
    found: Originals,
  ): Promise<Change[]> {
    if (part.length === 0) return [];
    for (let attempt = 1; ; attempt += 1) {
      await target.begin(null);
      try {
        const changes = this.#meant(part, found, await this.#countAlone(target.session, part));
        for (const change of changes) await this.#delete(target.session, change);
        await this.#insert(
          target.session,
          changes.filter(({ here, there }) => there > here),
        );
        await target.commit();
        return changes;
      } catch (error) {
        await target.rollback();
        if (!hasSqlState(error, SQLSTATE.lockNotAvailable)) throw this.#explained(error);
      }
      if (attempt === LOCK_ATTEMPTS) {
        this.#skipped.locked += part.length;
        return [];
      }
      await sleep(LOCK_RETRY_MS, this.#run.context.signal);
    }
  }

  /** Who else writes to the table now goes first; from then on nobody does. */
  async #countAlone(session: Session, part: readonly Content[]): Promise<Places> {
    await session.query(`LOCK TABLE ${this.#options.sql.table} IN SHARE ROW EXCLUSIVE MODE`);
    const [before = []] = await session.query(
      "SELECT pg_catalog.current_setting('statement_timeout')",
    );
    await session.query(`SET LOCAL statement_timeout = ${COUNT_TIMEOUT_MS}`);
    const places = await this.#places(session, part).catch((error: unknown) => {
      throwIfAborted(this.#run.context.signal);
      throw hasSqlState(error, SQLSTATE.queryCanceled) ? this.#tooLarge(error) : error;
    });
    await session.query(`SET LOCAL statement_timeout = '${before[0] ?? '0'}'`);
    return places;
  }

  async #places(session: Session, part: readonly Content[]): Promise<Places> {
    const rows = await session.query(this.#options.sql.copyPlaces(), [digestsOf(part)]);
    const places = new Map<string, Map<string, readonly string[]>>();
    for (const [digest = '', oid = '', list] of rows) {
      const of = places.get(digest ?? '') ?? new Map<string, readonly string[]>();
      of.set(oid ?? '', list?.match(/\(\d+,\d+\)/g) ?? []);
      places.set(digest ?? '', of);
    }
    return places;
  }

  /** Of these contents those that are as often there as in the file. */
  #meant(part: readonly Content[], found: Originals, places: Places): Change[] {
    return part.flatMap((content): Change[] => {
      const { digest, here, there } = content;
      const of = places.get(digest) ?? new Map<string, readonly string[]>();
      const now = [...of.values()].reduce((sum, list) => sum + list.length, 0);
      if (now === there) this.#counts.alreadyEqual += 1;
      else if (now !== here) this.#skipped.here += 1;
      else return [{ ...content, values: found.get(digest)?.values ?? [], places: of }];
      return [];
    });
  }

  async #delete(session: Session, { here, there, places }: Change): Promise<void> {
    let left = here - there;
    for (const [oid, all] of places) {
      const chosen = all.slice(0, Math.max(0, left));
      if (chosen.length === 0) return;
      const list = `{${chosen.map((place) => `"${place}"`).join(',')}}`;
      const [[deleted] = []] = await session.query(this.#options.sql.deleteCopies(), [oid, list]);
      // A trigger that says no.
      if (Number(deleted) !== chosen.length) throw this.#notDone('were not deleted');
      left -= chosen.length;
    }
  }

  async #insert(session: Session, changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    const { sql } = this.#options;
    const rows = changes.map(({ here, there, values }) => ({ number: there - here, values }));
    await session.query(sql.insertCopies(), sql.valueParams(rows));
  }

  #notDone(what: string): AcedError {
    const { spec } = this.#run;
    return new AcedError(
      'QUERY_FAILED',
      `copies of rows of ${spec.name} on ${this.#options.node} ${what}`,
      {
        hint: 'See the triggers of the table.',
      },
    );
  }

  #tooLarge(cause: unknown): AcedError {
    const { node, sql } = this.#options;
    return new AcedError(
      'UNSUPPORTED',
      `the copies of rows of ${sql.table} on ${node} cannot be counted within ${COUNT_TIMEOUT_MS / 1000} s, and nobody else could write to it for longer`,
      {
        hint: 'Give the table a key that tells its rows apart, and diff and repair with --key.',
        cause,
      },
    );
  }

  #explained(error: unknown): unknown {
    const { node, sql } = this.#options;
    if (hasSqlState(error, SQLSTATE.objectNotInPrerequisiteState)) {
      return new AcedError(
        'UNSUPPORTED',
        `${node} does not let rows of ${sql.table} be deleted: it is published without a replica identity`,
        {
          hint: `On ${node}: ALTER TABLE ${sql.table} REPLICA IDENTITY FULL; or --insert-only.`,
          cause: error,
        },
      );
    }
    return error;
  }

  #warnings(): string[] {
    const { node, peer } = this.#options;
    const { here, there, locked } = this.#skipped;
    const { left, failed } = this.#counts;
    const told: readonly (readonly [number, string])[] = [
      [here, `were skipped: no longer as often on ${node} as the diff saw them`],
      [there, `were skipped: no longer as often on ${peer} as the diff saw them`],
      [locked, 'were skipped: others write to the table without a pause'],
      [failed, 'could not be written: the node would hold other values'],
      [left, 'are left as they are: some copies are extra, and the chosen mode takes none away'],
    ];
    return told.flatMap(([count, what]) =>
      count === 0 ? [] : [`On ${node} ${count} contents ${what}.`],
    );
  }
}

function digestsOf(part: readonly Content[]): string[] {
  return part.map(({ digest }) => digest);
}

function originalsOf(rows: readonly (readonly (string | null)[])[]): Originals {
  return new Map(
    rows.map(([digest, count, ...values]) => [digest ?? '', { count: Number(count), values }]),
  );
}

/** How often the file has each content of a pair on either side. Errors: BAD_DIFF_FILE. */
async function readContents(
  { path }: RepairRun,
  pair: string,
  sides: { readonly here: string; readonly there: string },
): Promise<Content[]> {
  const contents = new Map<string, { digest: string; here: number; there: number }>();
  const columns = [ROW_COLUMN, COPIES_COLUMN];
  for await (const { node, rows } of readDiffRows(path, { pairs: [pair], columns })) {
    if (node !== sides.here && node !== sides.there) continue;
    for (const row of rows) {
      const { digest, copies } = contentOf(row, path);
      const content = contents.get(digest) ?? { digest, here: 0, there: 0 };
      if (node === sides.here) content.here = copies;
      else content.there = copies;
      contents.set(digest, content);
    }
  }
  return [...contents.values()];
}

function contentOf(row: DiffFileRow, path: string): { digest: string; copies: number } {
  const [digest = '', copies = ''] = keyTextsOf(row, [ROW_COLUMN, COPIES_COLUMN], path);
  if (/^-?\d+$/.test(digest) && /^\d{1,10}$/.test(copies))
    return { digest, copies: Number(copies) };
  throw new AcedError(
    'BAD_DIFF_FILE',
    `${path} has a row whose ${ROW_COLUMN} or ${COPIES_COLUMN} is not a number`,
    {
      hint: 'Run the diff again.',
    },
  );
}

/** As the report and the undo file have it: one row a content, with how often it is there. */
function rowChange({ digest, here, there, values }: Change, known: Texts = values): RowChange {
  // As in a diff file, what differs in its number alone has another digest.
  const image = (copies: number): RowChange['after'] =>
    copies === 0
      ? undefined
      : {
          digest: String(BigInt(digest) + BigInt(copies)),
          values: [digest, String(copies), ...known],
        };
  return { before: image(here), after: image(there) };
}
