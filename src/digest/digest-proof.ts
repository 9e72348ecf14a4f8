import type { DigestColumn, DigestSeed, HashForm, ValueForm } from './digest-column.js';
import { digestExpression } from './digest-sql.js';
import { hashTexts } from './row-hasher.js';

const SEED: DigestSeed = { seed: 0x0123_4567_89ab_cdefn, nullToken: 'null' };

/** What each form has trouble with, as the output functions write it. */
const PROBES: Readonly<Record<ValueForm | 'plain', { type: string; texts: readonly string[] }>> = {
  // The same bytes in every encoding, which buildTableSpec looks at by name.
  plain: { type: 'text', texts: ['', 'a', 'twelve bytes', 'more than twelve bytes'] },
  int4: { type: 'int4', texts: ['0', '-1', '2147483647', '-2147483648'] },
  int8: {
    type: 'int8',
    texts: ['1', '-1', '4294967296', '9223372036854775807', '-9223372036854775808'],
  },
  bool: { type: 'bool', texts: ['t', 'f'] },
  decimal: { type: 'numeric', texts: ['0.00', '1.00', '-10000', '0.0001', '123456789.5', 'NaN'] },
  date: { type: 'date', texts: ['2000-01-01', '0044-03-15 BC', 'infinity', '-infinity'] },
  timestamp: {
    type: 'timestamp',
    texts: [
      '2000-01-01 00:00:00',
      '2024-02-29 23:59:59.999999',
      // The start of a bin before the epoch, which date_bin() of some releases took for the one before.
      '1999-12-31 22:48:25.032704',
      '4714-11-24 00:00:00 BC',
      '4714-11-24 00:53:22.37568 BC',
      '294276-12-31 23:59:59.999999',
      'infinity',
      '-infinity',
    ],
  },
  timestamptz: {
    type: 'timestamptz',
    texts: [
      '2000-01-01 00:00:00+00',
      '2024-02-29 23:59:59.999999+00',
      '1999-12-31 22:48:25.032704+00',
      '4714-11-24 00:00:00+00 BC',
      '4714-11-24 00:53:22.37568+00 BC',
      '294276-12-31 23:59:59.999999+00',
      'infinity',
      '-infinity',
    ],
  },
  uuid: { type: 'uuid', texts: ['00112233-4455-6677-8899-aabbccddeeff'] },
};

type Proved = keyof typeof PROBES;
const FORMS = Object.keys(PROBES) as Proved[];

function probes(form: Proved): readonly (string | null)[] {
  return [...PROBES[form].texts, null];
}

/** One statement: a row per probe, its digest alone. The session must have the pinned settings. */
export const PROOF_QUERY: string = FORMS.map((form, i) => {
  const column: DigestColumn = {
    ...{ name: 'v', textForm: 'plain' },
    ...(form === 'plain' ? {} : { valueForm: form }),
  };
  const values = probes(form)
    .map((text, n) => `(${n}, ${text === null ? 'NULL' : `'${text}'`})`)
    .join(', ');
  return `SELECT ${i} AS form, n, ${digestExpression([column], SEED, 't')}::text
    FROM (SELECT n, v::pg_catalog.${PROBES[form].type} AS v FROM (VALUES ${values}) p(n, v)) t`;
})
  .join('\nUNION ALL\n')
  .concat('\nORDER BY form, n');

/** The forms that a node does not hash as we do, by its answer to PROOF_QUERY; `plain`: text. */
export function unprovedForms(
  answer: readonly (readonly (string | null)[])[],
): ReadonlySet<ValueForm | 'plain'> {
  const digests = answer.map(([, , digest]) => digest);
  const unproved = new Set<Proved>();
  let at = 0;
  for (const form of FORMS) {
    for (const text of probes(form)) {
      const expected = BigInt.asIntN(64, hashTexts(SEED, [form satisfies HashForm], [text]));
      if (digests[at++] !== String(expected)) unproved.add(form);
    }
  }
  return unproved;
}
