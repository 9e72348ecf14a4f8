declare const lsnBrand: unique symbol;

/** A write-ahead log position: 64 unsigned bits. `0/0` means "none". */
export type Lsn = bigint & { readonly [lsnBrand]: true };

export const NO_LSN = 0n as Lsn;

const LSN_PATTERN = /^([0-9A-Fa-f]{1,8})\/([0-9A-Fa-f]{1,8})$/;

/** Reads PostgreSQL's `XXXXXXXX/XXXXXXXX` form; throws a RangeError that names the input. */
export function parseLsn(text: string): Lsn {
  const match = LSN_PATTERN.exec(text);
  if (match?.[1] === undefined || match[2] === undefined) {
    throw new RangeError(`not a write-ahead log position: ${JSON.stringify(text)}`);
  }
  return ((BigInt(`0x${match[1]}`) << 32n) | BigInt(`0x${match[2]}`)) as Lsn;
}

/** Writes the form that PostgreSQL prints. */
export function formatLsn(lsn: Lsn): string {
  const high = (lsn >> 32n).toString(16).toUpperCase();
  const low = (lsn & 0xffffffffn).toString(16).toUpperCase();
  return `${high}/${low}`;
}
