import type { HashForm, ValueForm } from './digest-column.js';
import type { TypeFacts } from './digest-sql.js';

// Fixed OIDs of pg_type.dat.
const VALUE_FORMS: ReadonlyMap<number, ValueForm> = new Map([
  [16, 'bool'],
  [20, 'int8'],
  [21, 'int4'],
  [23, 'int4'],
  [1082, 'date'],
  [1114, 'timestamp'],
  [1184, 'timestamptz'],
  [1700, 'decimal'],
  [2950, 'uuid'],
]);

/**
 * By which value a type is hashed; null: by its text. A numeric without a scale may be infinite, which
 * its hash does not tell from NaN: asking costs what the text does.
 */
export function valueFormOf({ baseTypeOid, typeModifier }: TypeFacts): ValueForm | null {
  const form = VALUE_FORMS.get(baseTypeOid) ?? null;
  return form === 'decimal' && typeModifier < 0 ? null : form;
}

/** One form for a column that the nodes may declare differently; null: its text. */
export function commonValueForm(types: readonly TypeFacts[]): ValueForm | null {
  const forms = new Set(types.map(valueFormOf));
  const [form = null, ...others] = forms;
  if (others.length === 0) return form;
  return [...forms].every((one) => one === 'int4' || one === 'int8') ? 'int8' : null;
}

/** How the addon numbers the forms: native/value-hash.h has the same numbers. */
const NATIVE_FORMS: Readonly<Record<HashForm, number>> = {
  plain: 0,
  output: 0,
  boolean: 0,
  bpchar: 0,
  numeric: 1,
  int4: 2,
  int8: 3,
  bool: 4,
  decimal: 5,
  date: 6,
  timestamp: 7,
  timestamptz: 8,
  uuid: 9,
};

export function nativeForm(form: HashForm): number {
  return NATIVE_FORMS[form];
}

export function isValueForm(form: HashForm): form is ValueForm {
  return NATIVE_FORMS[form] >= NATIVE_FORMS.int4;
}

const RUN_WORD = 0x9e37_79b9_7f4a_7c15n;

/**
 * The digest is changed by this before a numeric is hashed on top of it, unsigned 64 bits.
 * hash_numeric_extended gives its seed for NaN, whose mark is that of a positive number, so (NaN, 7) and
 * (7, NaN) would be the same. `run`: numerics right before it, with nothing between them that is always
 * hashed; 0: it needs no change. native/value-hash.h has it too.
 */
export function runWord(run: number): bigint {
  return BigInt.asUintN(64, RUN_WORD * BigInt(run));
}

/** The run after a column of this form. */
export function nextRun(form: HashForm, run: number): number {
  if (form === 'decimal') return run + 1;
  return form === 'bool' ? run : 0;
}

/**
 * Each column that is hashed by value has a mark beside it, for what its hash does not tell: NULL, a
 * boolean, the sign. A mark is -1, 0, 1 or 2, a digit of a number to base 4, so that marks of other
 * columns never make the same number; so many fit into an int4.
 */
export const MARKS_PER_WORD = 15;
