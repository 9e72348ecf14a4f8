/**
 * PostgreSQL's hash_bytes_extended (src/common/hashfn.c): Bob Jenkins' lookup3 with a 64-bit seed
 * and a 64-bit result, as a little-endian server computes it. For text under a deterministic
 * collation hashtextextended(text, seed) is this function over the text's bytes.
 *
 * Hashes bytes [start, end). 64-bit values are pairs of int32, so that no BigInt is allocated in
 * the stream's hot path. The result goes to out[0] (low 32 bits) and out[1] (high 32 bits); `out`
 * may hold the seed of the call, which is passed by value.
 */
export function hashBytesExtended(
  bytes: Uint8Array,
  start: number,
  end: number,
  seedLow: number,
  seedHigh: number,
  out: Int32Array,
): void {
  const length = end - start;
  let a = (0x9e3779b9 + length + 3923095) | 0;
  let b = a;
  let c = a;
  // A zero seed leaves the state alone: it must not be mixed in like the others.
  if ((seedLow | seedHigh) !== 0) {
    a = (a + seedHigh) | 0;
    b = (b + seedLow) | 0;
    // mix(a, b, c): written out, here and below, since three results cannot be returned for free.
    a = ((a - c) ^ ((c << 4) | (c >>> 28))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 6) | (a >>> 26))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 8) | (b >>> 24))) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ ((c << 16) | (c >>> 16))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 19) | (a >>> 13))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 4) | (b >>> 28))) | 0;
    b = (b + a) | 0;
  }

  let at = start;
  const lastWhole = end - 12;
  for (; at <= lastWhole; at += 12) {
    a = (a + word(bytes, at)) | 0;
    b = (b + word(bytes, at + 4)) | 0;
    c = (c + word(bytes, at + 8)) | 0;
    a = ((a - c) ^ ((c << 4) | (c >>> 28))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 6) | (a >>> 26))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 8) | (b >>> 24))) | 0;
    b = (b + a) | 0;
    a = ((a - c) ^ ((c << 16) | (c >>> 16))) | 0;
    c = (c + b) | 0;
    b = ((b - a) ^ ((a << 19) | (a >>> 13))) | 0;
    a = (a + c) | 0;
    c = ((c - b) ^ ((b << 4) | (b >>> 28))) | 0;
    b = (b + a) | 0;
  }

  const rest = end - at;
  if (rest >= 8) {
    a = (a + word(bytes, at)) | 0;
    b = (b + word(bytes, at + 4)) | 0;
    // The lowest byte of c is left to the length.
    if (rest > 8) c = (c + (tail(bytes, at + 8, rest - 8) << 8)) | 0;
  } else if (rest >= 4) {
    a = (a + word(bytes, at)) | 0;
    if (rest > 4) b = (b + tail(bytes, at + 4, rest - 4)) | 0;
  } else if (rest > 0) {
    a = (a + tail(bytes, at, rest)) | 0;
  }

  c = ((c ^ b) - ((b << 14) | (b >>> 18))) | 0;
  a = ((a ^ c) - ((c << 11) | (c >>> 21))) | 0;
  b = ((b ^ a) - ((a << 25) | (a >>> 7))) | 0;
  c = ((c ^ b) - ((b << 16) | (b >>> 16))) | 0;
  a = ((a ^ c) - ((c << 4) | (c >>> 28))) | 0;
  b = ((b ^ a) - ((a << 14) | (a >>> 18))) | 0;
  c = ((c ^ b) - ((b << 24) | (b >>> 8))) | 0;
  out[0] = c;
  out[1] = b;
}

function byte(bytes: Uint8Array, at: number): number {
  return bytes[at] ?? 0;
}

/** Four bytes, little-endian. */
function word(bytes: Uint8Array, at: number): number {
  return (
    byte(bytes, at) |
    (byte(bytes, at + 1) << 8) |
    (byte(bytes, at + 2) << 16) |
    (byte(bytes, at + 3) << 24)
  );
}

/** One to three bytes, little-endian. */
function tail(bytes: Uint8Array, at: number, count: number): number {
  let value = byte(bytes, at);
  if (count > 1) value |= byte(bytes, at + 1) << 8;
  if (count > 2) value |= byte(bytes, at + 2) << 16;
  return value;
}
