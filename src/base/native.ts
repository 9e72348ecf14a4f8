import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/**
 * An addon that was built before the last change of what it computes would give other digests than SQL.
 * native/addon.cc has the same number.
 */
const ADDON_VERSION = 3;

/** Layout of NativeHasher.shared; native/row-hasher.cc has the same numbers. */
export const SHARED_RESULT_LOW = 0;
export const SHARED_RESULT_HIGH = 1;
/** Not 0: a column's text is none of its type, and there is no digest. */
export const SHARED_STATUS = 2;
export const SHARED_FIRST_RANGE = 3;
/** As a range's start: the column is SQL NULL. */
export const SHARED_NULL_START = -1;

export interface NativeHasher {
  /**
   * Result, status, then (start, end) per column. The addon holds its address: never transfer or detach
   * its ArrayBuffer.
   */
  readonly shared: Int32Array;
  /** Reads the ranges, writes the result. RangeError: a range lies outside the buffer. */
  readonly hash: (buffer: Buffer) => void;
}

/** Layout of NativeRowMatcher.shared; native/row-matcher.cc has the same numbers. */
export const SHARED_MATCHED_ROWS = 0;
export const SHARED_MATCHED_END = 1;
export const SHARED_FIRST_PLACE = 2;

export interface NativeRowMatcher {
  /**
   * Number of rows, end of the last one, then (start, end) of each wanted value, row by row. The
   * addon holds its address: never transfer or detach its ArrayBuffer.
   */
  readonly shared: Int32Array;
  /** Matches rows from `start` on. RangeError: it lies outside the buffer. */
  readonly match: (buffer: Buffer, start: number) => void;
}

export interface NativeAddon {
  /** A byte per column: how it is hashed, as native/value-hash.h numbers it. */
  readonly createRowHasher: (
    seedLow: number,
    seedHigh: number,
    nullToken: Buffer,
    forms: Buffer,
  ) => NativeHasher;
  /** The wanted values are given by their indices, ascending; literals are not empty. */
  readonly createRowMatcher: (
    literals: readonly Buffer[],
    wanted: readonly number[],
    maxRows: number,
  ) => NativeRowMatcher;
  /**
   * One datagram to a unix socket (`@name`: one without a file); never waits. Returns 0 or the number
   * of the error. Absent in an addon that was built before it: nothing else depends on it.
   */
  readonly sendDatagram?: (path: string, text: string) => number;
  /** The user at the other end of a unix socket; null: not told. Absent in an older addon, as above. */
  readonly peerUid?: (fd: number) => number | null;
}

type Loaded = { readonly addon: NativeAddon } | { readonly unavailable: string };

let loaded: Loaded | null = null;

/** The C++ forms, or null where they cannot be loaded or `ACED_NATIVE=off` says not to. */
export function nativeAddon(): NativeAddon | null {
  loaded ??= load();
  return 'addon' in loaded ? loaded.addon : null;
}

/** Why JavaScript does the addon's work; null where the addon is in use. */
export function nativeUnavailableReason(): string | null {
  loaded ??= load();
  return 'unavailable' in loaded ? loaded.unavailable : null;
}

function load(): Loaded {
  if (process.env['ACED_NATIVE'] === 'off') return { unavailable: 'ACED_NATIVE=off' };
  const root = packageRoot();
  if (root === null) return { unavailable: 'no package folder above the program' };
  const path = join(root, 'native', 'build', 'Release', 'aced_native.node');
  if (!existsSync(path)) return { unavailable: `${path} does not exist` };
  try {
    const addon: unknown = createRequire(import.meta.url)(path);
    if (isNativeAddon(addon)) return { addon };
    return { unavailable: `${path} is not the addon of this version` };
  } catch (error) {
    return { unavailable: error instanceof Error ? error.message : String(error) };
  }
}

function isNativeAddon(value: unknown): value is NativeAddon {
  return (
    typeof value === 'object' &&
    value !== null &&
    'version' in value &&
    value.version === ADDON_VERSION &&
    'createRowHasher' in value &&
    typeof value.createRowHasher === 'function' &&
    'createRowMatcher' in value &&
    typeof value.createRowMatcher === 'function'
  );
}

/**
 * The folder of the package, or null. Sources and compiled files lie at different depths below it,
 * so it is found by its name.
 */
export function packageRoot(): string | null {
  let folder = dirname(fileURLToPath(import.meta.url));
  for (;;) {
    if (packageName(join(folder, 'package.json')) === 'aced') return folder;
    const parent = dirname(folder);
    if (parent === folder) return null;
    folder = parent;
  }
}

function packageName(path: string): unknown {
  try {
    const content: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof content === 'object' && content !== null && 'name' in content
      ? content.name
      : null;
  } catch {
    return null;
  }
}
