import type { KeyText } from '../table/table-spec.js';
import type { CopyMode, Merged, Ruling, Wish } from './decision.js';
import { parseExpression, type Condition, type Lookup, type PlanSide } from './plan-expression.js';
import {
  planError,
  type PlanAction,
  type PlanKeys,
  type PlanRule,
  type TablePlan,
} from './plan-file.js';
import { compareValues, type ValueKind } from './plan-values.js';

type Values = readonly (string | null)[];

/** What a plan may ask for beside the columns. */
export const METADATA_COLUMNS: Readonly<Record<string, ValueKind>> = {
  commit_ts: 'time',
  node_origin: 'text',
};

/** Both rows of a key as they are; null: no such row. */
export interface RowPair {
  readonly key: KeyText;
  readonly rows: readonly [Values | null, Values | null];
  /** Of each row: commit time and origin, by METADATA_COLUMNS' names. */
  readonly metadata: readonly [Metadata, Metadata];
}

export type Metadata = Readonly<Record<string, string | null>>;

/** What becomes of a key on both nodes; null: nothing, and the other one tells. */
export interface PairRuling {
  readonly name: string;
  readonly sides: readonly [Ruling | null, Ruling | null];
}

export interface PlanFacts {
  /** The pair's nodes in the order of its name: the plan's n1 and n2. */
  readonly pair: readonly [string, string];
  readonly clusterNodes: readonly string[];
  readonly columns: readonly { readonly name: string; readonly kind: ValueKind }[];
  readonly keyColumns: readonly string[];
}

interface CompiledRule {
  readonly name: string;
  readonly matches: (pair: RowPair) => boolean;
  readonly action: PlanAction;
}

const DIFF_TYPE = /^(row_mismatch|(?:missing|deleted)_on_(.+))$/;
const TEMPLATE = /\{\{\s*([^{}.]+)\.([^{}]+?)\s*\}\}/g;

/**
 * A plan, made ready for the rows of one pair. `n1` and `n2` are the pair's first and second node;
 * nodes may be called by their names too, and what is about a node that is not of the pair does not
 * apply. Pure. Errors, of the constructor: BAD_USAGE for what no row could make good.
 */
export class PairPlan {
  readonly #facts: PlanFacts;
  readonly #overrides: readonly {
    readonly name: string;
    readonly key: KeyText;
    readonly action: PlanAction;
  }[];
  readonly #rules: readonly CompiledRule[];
  readonly #defaultAction: PlanAction;

  constructor(plan: TablePlan, facts: PlanFacts) {
    this.#facts = facts;
    this.#overrides = plan.overrides.map(({ name, key, action }) => ({
      name,
      key: this.#keyOf(key, name),
      action: this.#checked(action, name),
    }));
    this.#rules = plan.rules.map((rule) => ({
      name: rule.name,
      matches: this.#matcher(rule),
      action: this.#checked(rule.action, rule.name, rule.diffTypes ?? []),
    }));
    this.#defaultAction = this.#checked(plan.defaultAction, 'default_action');
  }

  rule(pair: RowPair): PairRuling {
    const override = this.#overrides.find(({ key }) => this.#compareKeys(key, pair.key) === 0);
    if (override !== undefined) return this.#rulingOf(override, pair);
    const rule = this.#rules.find(({ matches, action }) => matches(pair) && this.#applies(action));
    return this.#rulingOf(rule ?? { name: 'default_action', action: this.#defaultAction }, pair);
  }

  #sideOf(name: string): PlanSide | null | undefined {
    const { pair, clusterNodes } = this.#facts;
    if (name === 'n1' || name === pair[0]) return 0;
    if (name === 'n2' || name === pair[1]) return 1;
    return clusterNodes.includes(name) ? null : undefined;
  }

  /** Errors: BAD_USAGE for a node that is none. */
  #known(name: string, where: string): PlanSide | null {
    const side = this.#sideOf(name);
    if (side !== undefined) return side;
    throw planError(
      `the repair plan, ${where}: ${JSON.stringify(name)} is not a node of the cluster, nor n1 or n2`,
    );
  }

  #hasColumn(name: string): boolean {
    return name in METADATA_COLUMNS || this.#facts.columns.some((column) => column.name === name);
  }

  #requireColumn(name: string, where: string): void {
    if (this.#hasColumn(name)) return;
    throw planError(
      `the repair plan, ${where}: the table has no compared column ${JSON.stringify(name)}`,
    );
  }

  #checked(action: PlanAction, where: string, diffTypes: readonly string[] = []): PlanAction {
    if (action.type === 'keep' || action.type === 'apply_from') {
      const side = this.#known(action.from, where);
      const lacks = side === null ? null : this.#missingOn(side);
      const [impossible] = diffTypes;
      if (impossible !== undefined && diffTypes.every((type) => lacks?.includes(type) === true)) {
        throw planError(
          `the repair plan, ${where}: ${action.from} has no row to copy where ${impossible}`,
        );
      }
      const isInsert = action.type === 'apply_from' && action.mode === 'insert';
      if (isInsert && diffTypes.includes('row_mismatch')) {
        throw planError(
          `the repair plan, ${where}: mode insert is for missing rows, not for row_mismatch`,
        );
      }
    }
    if (action.type === 'custom') {
      for (const node of action.coalesce ?? []) this.#known(node, where);
      if (action.freshest !== null) this.#requireColumn(action.freshest.key, where);
      if (action.freshest?.tie != null) this.#known(action.freshest.tie, where);
      for (const [column, text] of action.row) {
        if (column in METADATA_COLUMNS) {
          throw planError(
            `the repair plan, ${where}: ${column} is not a column that can be written`,
          );
        }
        this.#requireColumn(column, where);
        for (const [, node = '', from = ''] of (text ?? '').matchAll(TEMPLATE)) {
          this.#known(node, where);
          this.#requireColumn(from, where);
        }
      }
    }
    return action;
  }

  #missingOn(side: PlanSide): string[] {
    const names = [`n${side + 1}`, this.#facts.pair[side]];
    return names.flatMap((name) => [`missing_on_${name}`, `deleted_on_${name}`]);
  }

  /** Whether the action is about this pair's nodes. */
  #applies(action: PlanAction): boolean {
    const isHere = (name: string): boolean => this.#sideOf(name) !== null;
    if (action.type === 'keep' || action.type === 'apply_from') return isHere(action.from);
    return true;
  }

  #matcher({ name, keys, diffTypes, columnsChanged, when }: PlanRule): (pair: RowPair) => boolean {
    const tests: ((pair: RowPair) => boolean)[] = [];
    if (keys !== null) {
      const ranges = keys.map((one) => this.#keyTest(one, name));
      tests.push(({ key }) => ranges.some((isIn) => isIn(key)));
    }
    if (diffTypes !== null) {
      const types = diffTypes.map((type) => this.#diffType(type, name));
      tests.push(({ rows }) =>
        types.includes(rows[0] === null ? 0 : rows[1] === null ? 1 : 'both'),
      );
    }
    if (columnsChanged !== null) {
      for (const column of columnsChanged) this.#requireColumn(column, name);
      const places = columnsChanged.map((column) => this.#place(column));
      tests.push(({ rows: [a, b] }) =>
        places.some((at) => a !== null && b !== null && a[at] !== b[at]),
      );
    }
    if (when !== null) {
      const condition = this.#condition(when, name);
      tests.push((pair) => condition(this.#lookup(pair)) === true);
    }
    return (pair) => tests.every((test) => test(pair));
  }

  /** Which side lacks the row; null: one of another pair. */
  #diffType(type: string, where: string): PlanSide | 'both' | null {
    const [, known, node] = DIFF_TYPE.exec(type) ?? [];
    if (known === undefined) {
      throw planError(
        `the repair plan, ${where}: diff_type ${JSON.stringify(type)} is none of row_mismatch, missing_on_n1, missing_on_n2, deleted_on_n1, deleted_on_n2`,
      );
    }
    return node === undefined ? 'both' : this.#known(node, where);
  }

  #condition(when: string, where: string): Condition {
    try {
      return parseExpression(when, {
        sideOf: (name) => this.#sideOf(name),
        hasColumn: (name) => this.#hasColumn(name),
      });
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      throw planError(`the repair plan, ${where}: when: ${error.message}`);
    }
  }

  #lookup({ rows, metadata }: RowPair): Lookup {
    return (side, column) => {
      const kind = METADATA_COLUMNS[column];
      const place = this.#place(column);
      if (place < 0) return { kind: kind ?? 'text', text: metadata[side][column] ?? null };
      return {
        kind: this.#facts.columns[place]?.kind ?? 'text',
        text: rows[side]?.[place] ?? null,
      };
    };
  }

  #place(column: string): number {
    return this.#facts.columns.findIndex(({ name }) => name === column);
  }

  #keyOf(values: ReadonlyMap<string, string>, where: string): KeyText {
    const { keyColumns } = this.#facts;
    const other = [...values.keys()].find((name) => !keyColumns.includes(name));
    const lacking = keyColumns.find((name) => !values.has(name));
    if (other !== undefined || lacking !== undefined) {
      throw planError(`the repair plan, ${where}: pk must have exactly ${keyColumns.join(', ')}`);
    }
    return keyColumns.map((name) => values.get(name) ?? '');
  }

  #keyTest(keys: PlanKeys, where: string): (key: KeyText) => boolean {
    const { length } = this.#facts.keyColumns;
    const tuple = (texts: readonly string[]): readonly string[] => {
      if (texts.length === length) return texts;
      throw planError(
        `the repair plan, ${where}: a key has ${length} values, here are ${texts.length}`,
      );
    };
    if ('equals' in keys) {
      const isOneTuple = length > 1 && keys.equals.every((texts) => texts.length === 1);
      const tuples = isOneTuple ? [tuple(keys.equals.flat())] : keys.equals.map(tuple);
      return (key) => tuples.some((one) => this.#compareKeys(one, key) === 0);
    }
    const [from, to] = [keys.from, keys.to].map((end) => (end === null ? null : tuple(end)));
    return (key) =>
      (from == null || (this.#compareKeys(from, key) ?? 1) <= 0) &&
      (to == null || (this.#compareKeys(to, key) ?? -1) >= 0);
  }

  /** Null: values that cannot be of the column's type. */
  #compareKeys(a: KeyText, b: KeyText): number | null {
    for (const [i, name] of this.#facts.keyColumns.entries()) {
      const kind = this.#facts.columns[this.#place(name)]?.kind ?? 'text';
      const order = compareValues(kind, a[i] ?? '', b[i] ?? '');
      if (order !== 0) return order;
    }
    return 0;
  }

  #rulingOf(
    { name, action }: { readonly name: string; readonly action: PlanAction },
    pair: RowPair,
  ): PairRuling {
    const appliesToStale = action.allowsStale;
    const of = (first: Wish | null, second: Wish | null): PairRuling => {
      const [a, b] = [first, second].map((wish) =>
        wish === null ? null : { wish, appliesToStale },
      );
      return { name, sides: [a ?? null, b ?? null] };
    };
    const leave: Wish = { kind: 'leave' };
    switch (action.type) {
      case 'keep':
      case 'apply_from': {
        const from = this.#sideOf(action.from) ?? null;
        if (from === null) return of(null, leave);
        const wish: Wish = { kind: 'copy', mode: modeOf(action) };
        return from === 0 ? of(null, wish) : of(wish, null);
      }
      case 'bidirectional': {
        const wish: Wish = { kind: 'copy', mode: INSERTS };
        if (pair.rows[0] === null) return of(wish, null);
        return pair.rows[1] === null ? of(null, wish) : of(null, leave);
      }
      case 'skip':
        return of(null, leave);
      case 'delete': {
        const [first, second] = pair.rows.map((row) => (row === null ? null : REMOVE));
        return of(first ?? null, second ?? null);
      }
      case 'custom':
        return of(...this.#customWishes(action, pair));
    }
  }

  #customWishes(action: Extract<PlanAction, { type: 'custom' }>, pair: RowPair): [Wish, Wish] {
    const values = ([0, 1] as const).map((side) => this.#customRow(action, pair, side));
    const [first = [], second = []] = values;
    const keys = this.#facts.keyColumns.map((name) => this.#place(name));
    const isPartial = first.some((value, i) => !keys.includes(i) && value !== second[i]);
    const wishOf = (row: Values): Wish => {
      const merged: Merged = { values: row, isPartial };
      return { kind: 'merge', merge: () => merged };
    };
    return [wishOf(first), wishOf(second)];
  }

  /** What the plan makes of the row on one side: columns that it does not name stay as they are. */
  #customRow(
    action: Extract<PlanAction, { type: 'custom' }>,
    pair: RowPair,
    side: PlanSide,
  ): Values {
    const own = pair.rows[side] ?? pair.rows[side === 0 ? 1 : 0] ?? [];
    const lookup = this.#lookup(pair);
    const fresh = action.freshest === null ? null : this.#fresher(action.freshest, pair);
    return this.#facts.columns.map(({ name }, place) => {
      const value = own[place] ?? null;
      const named = action.row.get(name);
      if (this.#facts.keyColumns.includes(name)) {
        this.#requireKey(name, { named, value, lookup });
        return value;
      }
      if (named !== undefined) return named === null ? null : this.#filled(named, lookup);
      if (fresh !== null) return fresh[place] ?? null;
      if (action.coalesce === null) return value;
      const texts = action.coalesce.map((node) => {
        const from = this.#sideOf(node) ?? null;
        return from === null ? null : (pair.rows[from]?.[place] ?? null);
      });
      return texts.find((text) => text !== null) ?? null;
    });
  }

  #requireKey(
    name: string,
    {
      named,
      value,
      lookup,
    }: { named: string | null | undefined; value: string | null; lookup: Lookup },
  ): void {
    if (named === undefined) return;
    const text = named === null ? null : this.#filled(named, lookup);
    const kind = this.#facts.columns[this.#place(name)]?.kind ?? 'text';
    if (text !== null && value !== null && compareValues(kind, text, value) === 0) return;
    throw planError(
      `the repair plan: custom_row gives ${name}, which is of the key, another value`,
    );
  }

  /** The row whose key column is later, or greater; one that has none loses. */
  #fresher(
    { key, tie }: { readonly key: string; readonly tie: string | null },
    pair: RowPair,
  ): Values | null {
    const lookup = this.#lookup(pair);
    const [a, b] = [lookup(0, key), lookup(1, key)];
    if (pair.rows[0] === null || pair.rows[1] === null) return pair.rows[0] ?? pair.rows[1];
    if (a.text === null && b.text !== null) return pair.rows[1];
    if (b.text === null && a.text !== null) return pair.rows[0];
    const order =
      a.text === null || b.text === null ? 0 : (compareValues(a.kind, a.text, b.text) ?? 0);
    if (order !== 0) return pair.rows[order > 0 ? 0 : 1];
    const side = tie === null ? null : (this.#sideOf(tie) ?? null);
    return side === null ? null : pair.rows[side];
  }

  /** `{{n1.column}}` alone is that value, NULL too; in a longer text NULL is nothing. */
  #filled(text: string, lookup: Lookup): string | null {
    const value = (node: string, column: string): string | null => {
      const side = this.#sideOf(node) ?? null;
      return side === null ? null : lookup(side, column).text;
    };
    const [whole] = text.matchAll(TEMPLATE);
    if (whole?.[0] === text) return value(whole[1] ?? '', whole[2] ?? '');
    return text.replace(TEMPLATE, (_, node: string, column: string) => value(node, column) ?? '');
  }
}

const INSERTS: CopyMode = { inserts: true, updates: false, deletes: false };
const REMOVE: Wish = { kind: 'delete' };

/** Rows are deleted by `delete` alone: one that the kept side lacks may be the only one there is. */
function modeOf(action: Extract<PlanAction, { type: 'keep' | 'apply_from' }>): CopyMode {
  const isInsert = action.type === 'apply_from' && action.mode === 'insert';
  return { inserts: true, updates: !isInsert, deletes: false };
}
