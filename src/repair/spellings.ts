import { quoteQualified } from '../base/quote.js';
import { KeySql, keyTextColumns } from '../merkle/key-sql.js';
import type { Session } from '../postgres/session.js';
import type { TableSpec } from '../table/table-spec.js';
import type { Expectations } from './expectation.js';

/**
 * A row whose key is spelled differently on two nodes stands in the file as two keys, one on each
 * side. Joins them to one row to be updated, where the target finds them equal by the key's own
 * operator; else a repair would want to insert a key that is there.
 */
export async function joinSpellings(
  expectations: Expectations,
  { spec, target, signal }: { spec: TableSpec; target: Session; signal: AbortSignal },
): Promise<void> {
  const isSpelledOnce = ({ isTextUnique, textForm }: TableSpec['key'][number]): boolean =>
    isTextUnique && textForm !== 'numeric';
  if (spec.key.every(isSpelledOnce)) return;
  const { sources, targets } = expectations.oneSided();
  if (sources.length === 0 || targets.length === 0) return;
  const key = new KeySql(spec.key);
  const count = spec.key.length;
  const names = (prefix: string): string => spec.key.map((_, i) => `${prefix}${i}`).join(', ');
  const arrays = (first: number): string =>
    spec.key.map((_, i) => `$${first + i}::text[]`).join(', ');
  const pairs = await target.query(
    `SELECT s.n, r.n
       FROM unnest($1::int[], ${arrays(3)}) s(n, ${names('s')})
       JOIN ${quoteQualified(spec.schema, spec.name)} t ON ${key.equality((i) => `s.s${i}`)}
       JOIN unnest($2::int[], ${arrays(3 + count)}) r(n, ${names('r')})
         ON ${key.equality((i) => `r.r${i}`)}`,
    [
      sources.map(({ place }) => String(place)),
      targets.map(({ place }) => String(place)),
      ...[sources, targets].flatMap((side) =>
        keyTextColumns(
          count,
          side.map((one) => one.key),
        ),
      ),
    ],
    signal,
  );
  for (const [source, other] of pairs) expectations.join(Number(source), Number(other));
}
