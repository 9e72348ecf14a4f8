/** What an option accepts: reads a value as YAML, JSON, an environment variable or a flag gives it. */
export interface ValueKind<T> {
  /** For messages and help, e.g. `an integer from 1 to 65535`. */
  readonly accepts: string;
  /** No message may quote the value. */
  readonly isSecret?: boolean;
  /** Undefined: not acceptable. */
  readonly read: (value: unknown) => T | undefined;
}

export interface NumberLimits {
  readonly min: number;
  readonly max?: number;
  /** The number given is multiplied by this, e.g. 1000 for seconds that become milliseconds. */
  readonly scale?: number;
  readonly unit?: string;
}

const DECIMAL = /^[+-]?(\d+\.?\d*|\.\d+)$/;

export function integer(limits: NumberLimits): ValueKind<number> {
  return {
    accepts: describe('an integer', limits),
    read: (value) => {
      const number = toNumber(value);
      return number !== undefined && Number.isSafeInteger(number)
        ? within(number, limits)
        : undefined;
    },
  };
}

export function ratio(limits: NumberLimits): ValueKind<number> {
  return {
    accepts: describe('a number', limits),
    read: (value) => {
      const number = toNumber(value);
      return number === undefined ? undefined : within(number, limits);
    },
  };
}

export function oneOf<const Choice extends string>(choices: readonly Choice[]): ValueKind<Choice> {
  return {
    accepts: `one of ${choices.join(', ')}`,
    read: (value) =>
      typeof value === 'string'
        ? choices.find((choice) => choice === value.toLowerCase())
        : undefined,
  };
}

/** As YAML, JSON and PostgreSQL write it. */
export const onOff: ValueKind<boolean> = {
  accepts: 'true or false',
  read: (value) => {
    if (typeof value === 'boolean') return value;
    const word = typeof value === 'string' ? value.trim().toLowerCase() : '';
    if (['true', 'on', 'yes', '1'].includes(word)) return true;
    return ['false', 'off', 'no', '0'].includes(word) ? false : undefined;
  },
};

export function text(accepts: string, pattern: RegExp): ValueKind<string> {
  return {
    accepts,
    read: (value) => (typeof value === 'string' && pattern.test(value) ? value : undefined),
  };
}

/** A YAML list of texts, or one text, in which commas may separate several. */
export function textList(accepts: string): ValueKind<readonly string[]> {
  return {
    accepts,
    read: (value) => {
      const texts: unknown[] = Array.isArray(value) ? value : [value];
      const isText = (one: unknown): one is string => typeof one === 'string' && one.trim() !== '';
      return texts.every(isText) ? texts : undefined;
    },
  };
}

/** A YAML list of names, whatever is in them, or one text, in which commas separate several. */
export function nameList(accepts: string): ValueKind<readonly string[]> {
  return {
    accepts,
    read: (value) => {
      const names: unknown[] =
        typeof value === 'string' ? value.split(',').map((name) => name.trim()) : [value].flat();
      const isName = (one: unknown): one is string => typeof one === 'string' && one !== '';
      return names.every(isName) ? names : undefined;
    },
  };
}

export function secret(kind: ValueKind<string>): ValueKind<string> {
  return { ...kind, isSecret: true };
}

/** May hold a token. */
export const webAddress: ValueKind<string> = secret({
  accepts: 'an address that begins with http:// or https://',
  read: (value) => {
    if (typeof value !== 'string' || !URL.canParse(value)) return undefined;
    const { protocol, username } = new URL(value);
    // fetch() takes none with a user in it.
    return ['http:', 'https:'].includes(protocol) && username === '' ? value : undefined;
  },
});

/** A path; made absolute by whoever knows what it is relative to. */
export const path: ValueKind<string> = text('a path', /^[^\0]+$/);

/** PostgreSQL's units: powers of 1024, https://www.postgresql.org/docs/current/config-setting.html. */
const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  b: 1,
  kb: 1024,
  kib: 1024,
  mb: 1024 ** 2,
  mib: 1024 ** 2,
  gb: 1024 ** 3,
  gib: 1024 ** 3,
  tb: 1024 ** 4,
  tib: 1024 ** 4,
};

export function byteSize(min: number): ValueKind<number> {
  return {
    accepts: `a size${min === 0 ? '' : ` of at least ${min / 1024 ** 2} MiB`}: bytes, or with a unit as in 64GiB`,
    read: (value) => {
      const match = /^(\d+)\s*([a-z]*)$/i.exec(String(value).trim());
      const unit = SIZE_UNITS[match?.[2]?.toLowerCase() ?? ''];
      if (match?.[1] === undefined || unit === undefined) return undefined;
      const bytes = Number(match[1]) * unit;
      return Number.isSafeInteger(bytes) && bytes >= min ? bytes : undefined;
    },
  };
}

/** 0 means "no limit" to ACE as well as to us. */
export function rowLimit(): ValueKind<number> {
  return {
    accepts: 'an integer from 0 up (0: no limit)',
    read: (value) => {
      const number = toNumber(value);
      if (number === undefined || !Number.isSafeInteger(number) || number < 0) return undefined;
      return number === 0 ? Number.MAX_SAFE_INTEGER : number;
    },
  };
}

function toNumber(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  // Number() alone would read '' as 0 and '0x10' as 16.
  if (typeof value !== 'string' || !DECIMAL.test(value.trim())) return undefined;
  return Number(value.trim());
}

function within(number: number, limits: NumberLimits): number | undefined {
  if (number < limits.min || number > (limits.max ?? Infinity)) return undefined;
  return number * (limits.scale ?? 1);
}

function describe(kind: string, limits: NumberLimits): string {
  const range =
    limits.max === undefined ? `from ${limits.min} up` : `from ${limits.min} to ${limits.max}`;
  return `${kind} ${range}${limits.unit === undefined ? '' : ` (${limits.unit})`}`;
}
