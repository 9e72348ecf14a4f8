import {
  nativeAddon,
  SHARED_FIRST_PLACE,
  SHARED_MATCHED_END,
  SHARED_MATCHED_ROWS,
  type NativeAddon,
  type NativeRowMatcher,
} from '../base/native.js';
import { scanObject } from './json-scan.js';
import { digestText, isDigestName, UNREAD_ROW, type DiffFileRow } from './file-row.js';
import { METADATA_KEY } from './row-text.js';

const OPEN_BRACE = 0x7b;

/** Of one call; a window of the file holds not many more. */
const MAX_ROWS = 1024;

/**
 * Reads rows that are laid out as a row before them was: the same names, blanks and punctuation
 * around other values. Finds in them exactly what reading them member by member would.
 */
export class RowMatcher {
  readonly #native: NativeRowMatcher;
  readonly #columns: readonly string[];
  /** How many values of a row are reported. */
  readonly #slots: number;
  readonly #digestSlot: number | null;

  private constructor(addon: NativeAddon, layout: Layout) {
    const { literals, wanted, columns, digestSlot } = layout;
    this.#native = addon.createRowMatcher(literals, wanted, MAX_ROWS);
    this.#columns = columns;
    this.#slots = wanted.length;
    this.#digestSlot = digestSlot;
  }

  /**
   * From the complete row at `start`. Null where there is no addon, or for a layout that rows may
   * share although they must be read in different ways.
   *
   * @param isWanted by the name of a column, or METADATA_KEY for the digest
   */
  static learn(
    bytes: Buffer,
    start: number,
    isWanted: (name: string) => boolean,
  ): RowMatcher | null {
    const addon = nativeAddon();
    const layout = addon === null ? null : layoutOf(bytes, start, isWanted);
    return addon === null || layout === null ? null : new RowMatcher(addon, layout);
  }

  /** Pushes the rows that match and returns the end of the last one: `start` where none does. */
  match(bytes: Buffer, start: number, found: DiffFileRow[]): number {
    this.#native.match(bytes, start);
    const { shared } = this.#native;
    const rows = shared[SHARED_MATCHED_ROWS] ?? 0;
    let place = SHARED_FIRST_PLACE;
    for (let row = 0; row < rows; row += 1) {
      if (this.#slots === 0) {
        found.push(UNREAD_ROW);
        continue;
      }
      const values: string[] = [];
      let digest: string | null = null;
      for (let slot = 0; slot < this.#slots; slot += 1) {
        const from = shared[place] ?? 0;
        const to = shared[place + 1] ?? 0;
        place += 2;
        if (slot === this.#digestSlot) digest = digestText(bytes, from, to);
        else values.push(bytes.toString('utf8', from, to));
      }
      found.push({ columns: this.#columns, values, digest });
    }
    return shared[SHARED_MATCHED_END] ?? start;
  }
}

interface Layout {
  /** What stands before, between and behind the values. */
  readonly literals: readonly Buffer[];
  /** Indices of the values that are reported. */
  readonly wanted: readonly number[];
  /** Of the reported values, without the digest. */
  readonly columns: readonly string[];
  /** Where the digest is among the reported values. */
  readonly digestSlot: number | null;
}

function layoutOf(
  bytes: Buffer,
  start: number,
  isWanted: (name: string) => boolean,
): Layout | null {
  const literals: Buffer[] = [];
  const wanted: number[] = [];
  const columns: string[] = [];
  const metadata = { digestSlot: null as number | null, isRegular: true };
  let literalStart = start;
  const literalUntil = (end: number): void => {
    literals.push(Buffer.from(bytes.subarray(literalStart, end)));
  };
  const end = scanObject(bytes, start, (nameStart, nameEnd, valueStart, valueEnd) => {
    const name = JSON.parse(bytes.toString('utf8', nameStart, nameEnd)) as string;
    if (name !== METADATA_KEY || !isWanted(name)) {
      if (isWanted(name)) {
        wanted.push(literals.length);
        columns.push(name);
      }
      literalUntil(valueStart);
      literalStart = valueEnd;
      return;
    }
    if (bytes[valueStart] !== OPEN_BRACE || metadata.digestSlot !== null) {
      metadata.isRegular = false;
      return;
    }
    // The digest is one of its members, so these are part of the layout.
    scanObject(bytes, valueStart, (itemStart, _itemEnd, itemValueStart, itemValueEnd) => {
      if (isDigestName(bytes, itemStart)) {
        metadata.isRegular &&= metadata.digestSlot === null;
        metadata.digestSlot = wanted.length;
        wanted.push(literals.length);
      }
      literalUntil(itemValueStart);
      literalStart = itemValueEnd;
    });
  });
  literalUntil(end);
  const { digestSlot, isRegular } = metadata;
  return isRegular ? { literals, wanted, columns, digestSlot } : null;
}
