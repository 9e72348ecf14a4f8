import { compareValues, type ValueKind } from './plan-values.js';

/** The first or the second node of a pair. */
export type PlanSide = 0 | 1;

export interface Operand {
  readonly kind: ValueKind;
  readonly text: string | null;
}

/** What an expression may ask of a row pair. */
export type Lookup = (side: PlanSide, column: string) => Operand;

/** As SQL has it: null is unknown. */
export type Condition = (lookup: Lookup) => boolean | null;

export interface ExpressionNames {
  /** Undefined: no node has this name. Null: one that is not of this pair. */
  sideOf(name: string): PlanSide | null | undefined;
  hasColumn(name: string): boolean;
}

interface Token {
  readonly kind: 'word' | 'quoted' | 'text' | 'number' | 'sign';
  readonly text: string;
  readonly at: number;
}

const TOKEN =
  /\s*(?:(?<word>[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff-]*)|"(?<quoted>(?:[^"]|"")+)"|'(?<text>(?:[^']|'')*)'|(?<number>-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?<sign><=|>=|!=|<>|[=<>(),.]))/y;

const COMPARISONS: Readonly<Record<string, (order: number) => boolean>> = {
  '=': (order) => order === 0,
  '!=': (order) => order !== 0,
  '<>': (order) => order !== 0,
  '<': (order) => order < 0,
  '<=': (order) => order <= 0,
  '>': (order) => order > 0,
  '>=': (order) => order >= 0,
};

/** A value of an expression; literals take the kind of what they are compared with. */
type Value = (lookup: Lookup) => Operand & { readonly isLiteral: boolean };

/**
 * `OR`, `AND`, `NOT` and parentheses over comparisons, `IN` and `IS [NOT] NULL` of `n1.column`,
 * `n2.column`, 'texts', numbers, true, false and NULL. Errors: SyntaxError saying what and where.
 */
export function parseExpression(text: string, names: ExpressionNames): Condition {
  return new Parser(tokensOf(text), names).parse();
}

function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  while (text.slice(at).trim() !== '') {
    TOKEN.lastIndex = at;
    const groups = TOKEN.exec(text)?.groups;
    if (groups === undefined)
      throw new SyntaxError(`it cannot be read from ${quote(text.slice(at))}`);
    for (const kind of ['word', 'quoted', 'text', 'number', 'sign'] as const) {
      const found = groups[kind];
      if (found === undefined) continue;
      const doubled = kind === 'quoted' ? '"' : kind === 'text' ? "'" : null;
      const plain = doubled === null ? found : found.replaceAll(doubled + doubled, doubled);
      tokens.push({ kind, text: plain, at });
    }
    at = TOKEN.lastIndex;
  }
  return tokens;
}

function quote(text: string): string {
  return JSON.stringify(text.trim().slice(0, 40));
}

class Parser {
  readonly #tokens: readonly Token[];
  readonly #names: ExpressionNames;
  #next = 0;

  constructor(tokens: readonly Token[], names: ExpressionNames) {
    this.#tokens = tokens;
    this.#names = names;
  }

  parse(): Condition {
    const condition = this.#or();
    const rest = this.#tokens[this.#next];
    if (rest !== undefined) throw new SyntaxError(`${quote(rest.text)} is not expected there`);
    return condition;
  }

  #or(): Condition {
    const parts = [this.#and()];
    while (this.#takesWord('OR')) parts.push(this.#and());
    return (lookup) => anyOf(parts.map((part) => part(lookup)));
  }

  #and(): Condition {
    const parts = [this.#not()];
    while (this.#takesWord('AND')) parts.push(this.#not());
    return (lookup) => negated(anyOf(parts.map((part) => negated(part(lookup)))));
  }

  #not(): Condition {
    if (this.#takesWord('NOT')) {
      const part = this.#not();
      return (lookup) => negated(part(lookup));
    }
    if (!this.#takesSign('(')) return this.#comparison();
    const inner = this.#or();
    this.#expectSign(')');
    return inner;
  }

  #comparison(): Condition {
    const left = this.#value();
    if (this.#takesWord('IS')) {
      const isNegated = this.#takesWord('NOT');
      if (!this.#takesWord('NULL')) throw new SyntaxError('NULL is expected after IS');
      return (lookup) => (left(lookup).text === null) !== isNegated;
    }
    const isNegated = this.#takesWord('NOT');
    if (this.#takesWord('IN')) {
      const items = this.#list();
      const isIn: Condition = (lookup) =>
        anyOf(items.map((item) => compared(left(lookup), item(lookup), '=')));
      return isNegated ? (lookup) => negated(isIn(lookup)) : isIn;
    }
    const sign = this.#tokens[this.#next];
    if (isNegated || sign === undefined || COMPARISONS[sign.text] === undefined) {
      throw new SyntaxError(`a comparison is expected after ${quote(this.#before())}`);
    }
    this.#next += 1;
    const right = this.#value();
    return (lookup) => compared(left(lookup), right(lookup), sign.text);
  }

  #list(): Value[] {
    this.#expectSign('(');
    const items = [this.#value()];
    while (this.#takesSign(',')) items.push(this.#value());
    this.#expectSign(')');
    return items;
  }

  #value(): Value {
    const token = this.#tokens[this.#next];
    if (token === undefined) throw new SyntaxError('a value is expected at the end');
    this.#next += 1;
    if (token.kind === 'text') return literal('text', token.text);
    if (token.kind === 'number') return literal('number', token.text);
    if (token.kind === 'sign') throw new SyntaxError(`a value is expected at ${quote(token.text)}`);
    const upper = token.text.toUpperCase();
    if (token.kind === 'word' && upper === 'NULL') return literal('text', null);
    if (token.kind === 'word' && ['TRUE', 'FALSE'].includes(upper)) return literal('bool', upper);
    return this.#column(token.text);
  }

  #column(node: string): Value {
    const side = this.#names.sideOf(node);
    if (side === undefined) throw new SyntaxError(`${quote(node)} is not a node: write n1.column`);
    this.#expectSign('.');
    const token = this.#tokens[this.#next];
    if (token === undefined || !['word', 'quoted'].includes(token.kind)) {
      throw new SyntaxError(`a column is expected after ${quote(`${node}.`)}`);
    }
    this.#next += 1;
    if (!this.#names.hasColumn(token.text)) {
      throw new SyntaxError(`the table has no compared column ${quote(token.text)}`);
    }
    return (lookup) =>
      side === null
        ? { kind: 'text', text: null, isLiteral: true }
        : { ...lookup(side, token.text), isLiteral: false };
  }

  #before(): string {
    return this.#tokens[this.#next - 1]?.text ?? '';
  }

  #takesWord(word: string): boolean {
    const token = this.#tokens[this.#next];
    if (token?.kind !== 'word' || token.text.toUpperCase() !== word) return false;
    this.#next += 1;
    return true;
  }

  #takesSign(sign: string): boolean {
    const token = this.#tokens[this.#next];
    if (token?.kind !== 'sign' || token.text !== sign) return false;
    this.#next += 1;
    return true;
  }

  #expectSign(sign: string): void {
    if (!this.#takesSign(sign)) {
      throw new SyntaxError(`${sign} is expected after ${quote(this.#before())}`);
    }
  }
}

function literal(kind: ValueKind, text: string | null): Value {
  return () => ({ kind, text, isLiteral: true });
}

function compared(a: ReturnType<Value>, b: ReturnType<Value>, sign: string): boolean | null {
  if (a.text === null || b.text === null) return null;
  const kind = a.isLiteral ? b.kind : b.isLiteral || a.kind === b.kind ? a.kind : 'text';
  const order = compareValues(kind, a.text, b.text);
  return order === null ? null : (COMPARISONS[sign]?.(order) ?? null);
}

function anyOf(parts: readonly (boolean | null)[]): boolean | null {
  if (parts.includes(true)) return true;
  return parts.includes(null) ? null : false;
}

function negated(value: boolean | null): boolean | null {
  return value === null ? null : !value;
}
