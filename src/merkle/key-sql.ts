import { quoteIdentifier } from '../base/quote.js';
import type { KeyColumnSpec, KeyOperators, KeyText } from '../table/table-spec.js';

/** A key as SQL expressions of the columns' types, one per column. */
export type KeyExpressions = readonly string[];

/** A range of keys, as expressions; null: open. */
export interface RangeExpressions {
  readonly lower: KeyExpressions | null;
  readonly upper: KeyExpressions | null;
}

/**
 * SQL that compares keys by the operators of their own index, which a bare `<` or `=` need not
 * find: see KeyOperators.
 */
export class KeySql {
  /** `t."k"` as a value of the type, with the collation that decides the order. */
  readonly columns: KeyExpressions;
  readonly #key: readonly KeyColumnSpec[];

  constructor(key: readonly KeyColumnSpec[]) {
    this.#key = key;
    this.columns = key.map((column) => this.#column(column));
  }

  /**
   * One row comparison can compare whole keys: it takes one operator for all columns, so they must
   * be ordered by the same. Only then can an index be walked from a key on by one condition.
   */
  get isRowComparable(): boolean {
    const [first] = this.#key;
    return this.#key.every(
      ({ operators }) =>
        operators.less === first?.operators.less && operators.atLeast === first.operators.atLeast,
    );
  }

  /** `expression(i)`, of the i-th column's type or text, as a value to compare with the columns. */
  values(expression: (i: number) => string): string[] {
    return this.#key.map((column, i) => {
      const value = `${expression(i)}::${column.typeName}`;
      return column.collate === null ? value : `${value} COLLATE ${column.collate}`;
    });
  }

  /** `list(i)`, an array of texts, as one of values that sort like the i-th column's. */
  arrays(lists: readonly string[]): string[] {
    return lists.map((list, i) => {
      const { typeName = 'text', collate = null } = this.#key[i] ?? {};
      const values = `${list}::${typeName}[]`;
      return collate === null ? values : `${values} COLLATE ${collate}`;
    });
  }

  /** The first column has the value, an expression of its type. */
  equalityOfFirst(value: string): string {
    return this.#compare(0, 'equal', this.columns[0], value);
  }

  /** The column has the value, in the column's own opinion. */
  equality(value: (i: number) => string): string {
    return this.#key
      .map(({ name, typeName, orderKind, operators }, i) => {
        return `${this.#typed({ name, typeName, orderKind })} ${operators.equal} ${value(i)}::${typeName}`;
      })
      .join(' AND ');
  }

  #column(column: KeyColumnSpec): string {
    const value = this.#typed(column);
    return column.collate === null ? value : `${value} COLLATE ${column.collate}`;
  }

  /**
   * Integers stay as they are: on a node where the column is narrower than the type, a cast would
   * keep its index from being used, which finds values of any integer type.
   */
  #typed({
    name,
    typeName,
    orderKind,
  }: Pick<KeyColumnSpec, 'name' | 'typeName' | 'orderKind'>): string {
    const column = `t.${quoteIdentifier(name)}`;
    return orderKind === 'integer' ? column : `${column}::${typeName}`;
  }

  /**
   * Conditions that together hold for the keys of a range, each key by one of them: a single row
   * comparison where there can be one. Where not, each is a range of one column below equal ones,
   * so that the key's index finds it. Empty string: no condition.
   */
  pieces(range: RangeExpressions): string[] {
    const { lower, upper } = range;
    if (!this.isRowComparable) return this.#pieces(range);
    const conditions: string[] = [];
    if (lower !== null) conditions.push(this.#compareRows('atLeast', lower));
    if (upper !== null) conditions.push(this.#compareRows('less', upper));
    return [conditions.join(' AND ')];
  }

  #compareRows(kind: keyof KeyOperators, values: KeyExpressions): string {
    return `${tuple(this.columns)} ${this.#operator(0, kind)} ${tuple(values)}`;
  }

  /**
   * The keys of [lower, upper) by the number `n` of first columns that a key has in common with an
   * end: with both (the column after them lies between the ends), or with one of them only.
   */
  #pieces({ lower, upper }: RangeExpressions): string[] {
    if (lower === null && upper === null) return [''];
    const last = this.#key.length - 1;
    const pieces: string[] = [];
    const above = (n: number, end: KeyExpressions): string =>
      this.#compare(n, n === last ? 'atLeast' : 'greater', this.columns[n], end[n]);
    const below = (n: number, end: KeyExpressions): string =>
      this.#compare(n, 'less', this.columns[n], end[n]);
    for (let n = 0; n <= last; n++) {
      if (lower !== null && upper !== null) {
        const between = this.#compare(n, 'less', lower[n], upper[n]);
        const common = this.#equal(n, lower, upper);
        const same = this.#equal(n, this.columns, lower);
        pieces.push(and(...common, between, ...same, above(n, lower), below(n, upper)));
        if (n === 0) continue;
        const differ = `NOT (${and(...common)})`;
        pieces.push(and(differ, ...same, above(n, lower)));
        pieces.push(and(differ, ...this.#equal(n, this.columns, upper), below(n, upper)));
      } else if (lower !== null) {
        pieces.push(and(...this.#equal(n, this.columns, lower), above(n, lower)));
      } else if (upper !== null) {
        pieces.push(and(...this.#equal(n, this.columns, upper), below(n, upper)));
      }
    }
    return pieces;
  }

  /** The first `n` columns of two keys are equal. */
  #equal(n: number, left: KeyExpressions, right: KeyExpressions): string[] {
    return Array.from({ length: n }, (_, i) => this.#compare(i, 'equal', left[i], right[i]));
  }

  #compare(
    i: number,
    kind: keyof KeyOperators,
    left: string | undefined,
    right: string | undefined,
  ): string {
    if (left === undefined || right === undefined) throw new RangeError('key of another shape');
    return `${left} ${this.#operator(i, kind)} ${right}`;
  }

  #operator(i: number, kind: keyof KeyOperators): string {
    const operator = this.#key[i]?.operators[kind];
    if (operator === undefined) throw new RangeError('key of another shape');
    return operator;
  }
}

/** The texts of keys, a list per column. */
export function keyTextColumns(count: number, keys: readonly KeyText[]): string[][] {
  return Array.from({ length: count }, (_, i) => keys.map((key) => key[i] ?? ''));
}

function tuple(parts: readonly string[]): string {
  return parts.length === 1 ? (parts[0] ?? '') : `(${parts.join(', ')})`;
}

function and(...conditions: readonly string[]): string {
  return conditions.join(' AND ');
}
