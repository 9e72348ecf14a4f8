import { isAlias, parseDocument, visit } from 'yaml';
import { AcedError } from '../base/errors.js';

/** A value of a plan, as text; null: NULL. */
export type PlanText = string | null;

export type PlanAction =
  | { readonly type: 'keep'; readonly from: string; readonly allowsStale: boolean }
  | {
      readonly type: 'apply_from';
      readonly from: string;
      readonly mode: 'replace' | 'upsert' | 'insert';
      readonly allowsStale: boolean;
    }
  | { readonly type: 'bidirectional' | 'skip' | 'delete'; readonly allowsStale: boolean }
  | {
      readonly type: 'custom';
      readonly row: ReadonlyMap<string, PlanText>;
      readonly coalesce: readonly string[] | null;
      readonly freshest: { readonly key: string; readonly tie: string | null } | null;
      readonly allowsStale: boolean;
    };

export type PlanKeys =
  | { readonly equals: readonly (readonly string[])[] }
  | { readonly from: readonly string[] | null; readonly to: readonly string[] | null };

export interface PlanRule {
  readonly name: string;
  readonly keys: readonly PlanKeys[] | null;
  readonly diffTypes: readonly string[] | null;
  readonly columnsChanged: readonly string[] | null;
  readonly when: string | null;
  readonly action: PlanAction;
}

export interface PlanOverride {
  readonly name: string;
  readonly key: ReadonlyMap<string, string>;
  readonly action: PlanAction;
}

/** What a plan says of one table. */
export interface TablePlan {
  /** What becomes of rows that no rule is about. */
  readonly defaultAction: PlanAction;
  readonly rules: readonly PlanRule[];
  readonly overrides: readonly PlanOverride[];
}

const SKIP: PlanAction = { type: 'skip', allowsStale: false };

/** A plan may repeat itself by anchors, but not without end. */
const MAX_ALIASES = 1_000;

/**
 * Reads ACE's repair plans, YAML or JSON. Integers keep their digits. What is not known is an
 * error: a rule that is misspelled must not become one that matches everything.
 *
 * @param table `schema.table`
 */
export function readPlan(text: string, table: string): TablePlan {
  const plan = new Place('the repair plan', parse(text)).members([
    ...['version', 'default_action', 'tables'],
  ]);
  const version = plan.get('version');
  if (version?.scalar() !== '1') throw planError('the repair plan: version must be 1');
  const tables = plan.get('tables')?.object();
  if (tables === undefined) throw planError('the repair plan has no tables');
  const found = tables.get(table);
  if (found === undefined) {
    throw planError(
      `the repair plan says nothing of ${table}, only of ${[...tables.keys()].join(', ')}`,
    );
  }
  const members = found.members(['default_action', 'rules', 'row_overrides']);
  const defaultAction = members.get('default_action') ?? plan.get('default_action');
  return {
    defaultAction: defaultAction === undefined ? SKIP : actionOf(defaultAction),
    rules: (members.get('rules')?.list() ?? []).map(ruleOf),
    overrides: (members.get('row_overrides')?.list() ?? []).map(overrideOf),
  };
}

function parse(text: string): unknown {
  const document = parseDocument(text, { intAsBigInt: true });
  const [error] = document.errors;
  if (error !== undefined) {
    throw planError(`the repair plan cannot be read: ${error.message.split('\n')[0] ?? ''}`);
  }
  let aliases = 0;
  visit(document, (_, node) => {
    if (isAlias(node)) aliases += 1;
  });
  if (aliases > MAX_ALIASES) throw planError('the repair plan repeats itself too often');
  return document.toJS({ maxAliasCount: MAX_ALIASES }) as unknown;
}

export function planError(message: string): AcedError {
  return new AcedError('BAD_USAGE', message, {
    hint: 'See docs/09-repair.md for the grammar of repair plans; nothing was written.',
  });
}

/** A value of the plan with where it stands, for errors. */
class Place {
  readonly where: string;
  readonly value: unknown;

  constructor(where: string, value: unknown) {
    this.where = where;
    this.value = value;
  }

  fail(what: string): AcedError {
    return planError(`${this.where}: ${what}`);
  }

  object(): Map<string, Place> {
    const { value } = this;
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw this.fail('an object is expected');
    }
    return new Map(
      Object.entries(value).map(([name, item]) => [name, new Place(`${this.where}.${name}`, item)]),
    );
  }

  /** Errors for others than the named ones. */
  members(known: readonly string[]): Map<string, Place> {
    const members = this.object();
    for (const name of members.keys()) {
      if (known.includes(name)) continue;
      throw this.fail(`${JSON.stringify(name)} is not known here; there are ${known.join(', ')}`);
    }
    return members;
  }

  list(): Place[] {
    const { value } = this;
    if (!Array.isArray(value)) throw this.fail('a list is expected');
    return value.map((item, i) => new Place(`${this.where}[${i}]`, item));
  }

  /** The text of a scalar that is not null. */
  scalar(): string {
    const text = this.text();
    if (text === null) throw this.fail('a value is expected');
    return text;
  }

  text(): PlanText {
    const { value } = this;
    if (value === null || value === undefined) return null;
    if (typeof value === 'string') return value;
    if (typeof value === 'number' || typeof value === 'bigint' || typeof value === 'boolean') {
      return String(value);
    }
    throw this.fail('a text, a number, true, false or null is expected');
  }

  oneOf<T extends string>(allowed: readonly T[]): T {
    const text = this.scalar();
    const found = allowed.find((one) => one === text);
    if (found === undefined) throw this.fail(`${text} is none of ${allowed.join(', ')}`);
    return found;
  }
}

function ruleOf(place: Place): PlanRule {
  const members = place.members([
    ...['name', 'pk_in', 'diff_type', 'columns_changed', 'when', 'action'],
  ]);
  const selectors = ['pk_in', 'diff_type', 'columns_changed', 'when'];
  if (!selectors.some((name) => members.has(name))) {
    throw place.fail(`a rule needs one of ${selectors.join(', ')}`);
  }
  return {
    name: members.get('name')?.scalar() ?? place.where,
    keys: members.get('pk_in')?.list().map(keysOf) ?? null,
    diffTypes:
      members
        .get('diff_type')
        ?.list()
        .map((item) => item.scalar()) ?? null,
    columnsChanged:
      members
        .get('columns_changed')
        ?.list()
        .map((item) => item.scalar()) ?? null,
    when: members.get('when')?.scalar() ?? null,
    action: actionIn(place, members),
  };
}

function overrideOf(place: Place): PlanOverride {
  const members = place.members(['name', 'pk', 'action']);
  const key = members.get('pk')?.object();
  if (key === undefined) throw place.fail('pk is missing');
  return {
    name: members.get('name')?.scalar() ?? place.where,
    key: new Map([...key].map(([column, value]) => [column, value.scalar()])),
    action: actionIn(place, members),
  };
}

function keysOf(place: Place): PlanKeys {
  const members = place.members(['equals', 'range']);
  const [equals, range] = [members.get('equals'), members.get('range')];
  if ((equals === undefined) === (range === undefined)) {
    throw place.fail('either equals or range is expected');
  }
  if (equals !== undefined) {
    const items = Array.isArray(equals.value) ? equals.list() : [equals];
    return { equals: items.map(tupleOf) };
  }
  const ends = range?.members(['from', 'to']);
  const [from, to] = ['from', 'to'].map((name) => ends?.get(name));
  if (from === undefined && to === undefined) throw place.fail('a range needs from or to');
  const endOf = (end: Place | undefined): readonly string[] | null =>
    end === undefined ? null : tupleOf(end);
  return { from: endOf(from), to: endOf(to) };
}

function tupleOf(place: Place): string[] {
  return Array.isArray(place.value) ? place.list().map((item) => item.scalar()) : [place.scalar()];
}

function actionIn(place: Place, members: ReadonlyMap<string, Place>): PlanAction {
  const action = members.get('action');
  if (action === undefined) throw place.fail('action is missing');
  return actionOf(action);
}

const KEEP = 'keep_';

function actionOf(place: Place): PlanAction {
  const members = place.members([
    ...['type', 'from', 'mode', 'allow_stale_repairs', 'custom_row', 'helpers'],
  ]);
  const type = members.get('type')?.scalar() ?? '';
  const only = (names: readonly string[]): void => {
    for (const name of members.keys()) {
      if (['type', 'allow_stale_repairs', ...names].includes(name)) continue;
      throw place.fail(`${name} does not go with ${type}`);
    }
  };
  const allowsStale = members.get('allow_stale_repairs')?.oneOf(['true', 'false']) === 'true';
  if (type.startsWith(KEEP)) {
    only([]);
    return { type: 'keep', from: type.slice(KEEP.length), allowsStale };
  }
  switch (type) {
    case 'apply_from': {
      only(['from', 'mode']);
      const from = members.get('from')?.scalar();
      if (from === undefined) throw place.fail('from is missing');
      const mode = members.get('mode')?.oneOf(['replace', 'upsert', 'insert']) ?? 'replace';
      return { type, from, mode, allowsStale };
    }
    case 'bidirectional':
    case 'skip':
    case 'delete':
      only([]);
      return { type, allowsStale };
    case 'custom':
      only(['custom_row', 'helpers']);
      return { type, ...customOf(place, members), allowsStale };
    default:
      throw place.fail(
        `type ${JSON.stringify(type)} is none of keep_n1, keep_n2, apply_from, bidirectional, custom, skip, delete`,
      );
  }
}

type CustomPart = Pick<Extract<PlanAction, { type: 'custom' }>, 'row' | 'coalesce' | 'freshest'>;

function customOf(place: Place, members: ReadonlyMap<string, Place>): CustomPart {
  const row = members.get('custom_row')?.object();
  const helpers = members.get('helpers')?.members(['coalesce_priority', 'pick_freshest']);
  const coalesce = helpers?.get('coalesce_priority')?.list() ?? null;
  const freshest = helpers?.get('pick_freshest')?.members(['key', 'tie']) ?? null;
  if (row === undefined && coalesce === null && freshest === null) {
    throw place.fail('custom needs custom_row or helpers');
  }
  if (coalesce !== null && freshest !== null) {
    throw place.fail('coalesce_priority and pick_freshest fill the same columns: give one of them');
  }
  const key = freshest?.get('key')?.scalar();
  if (freshest !== null && key === undefined) throw place.fail('pick_freshest needs a key');
  return {
    row: new Map([...(row ?? [])].map(([column, value]) => [column, valueOf(value)])),
    coalesce: coalesce?.map((item) => item.scalar()) ?? null,
    freshest: key === undefined ? null : { key, tie: freshest?.get('tie')?.scalar() ?? null },
  };
}

/** Objects and lists are the JSON of a column. */
function valueOf(place: Place): PlanText {
  if (typeof place.value !== 'object' || place.value === null) return place.text();
  return JSON.stringify(place.value, (_, value: unknown) =>
    typeof value === 'bigint' ? Number(value) : value,
  );
}
