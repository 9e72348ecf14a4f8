// PostgreSQL's hash_bytes_extended (Bob Jenkins' lookup3, 64-bit result) as a little-endian server
// computes it. The JavaScript twin is src/digest/hash.ts; golden vectors hold the two to a server.

#pragma once

#include <cstdint>
#include <cstring>

struct Digest {
  uint32_t low;
  uint32_t high;
};

inline uint32_t Rotate(uint32_t x, int k) { return (x << k) | (x >> (32 - k)); }

inline uint32_t Word(const uint8_t* p) {
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
  return uint32_t{p[0]} | uint32_t{p[1]} << 8 | uint32_t{p[2]} << 16 | uint32_t{p[3]} << 24;
#else
  uint32_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
#endif
}

inline void Mix(uint32_t& a, uint32_t& b, uint32_t& c) {
  a -= c; a ^= Rotate(c, 4); c += b;
  b -= a; b ^= Rotate(a, 6); a += c;
  c -= b; c ^= Rotate(b, 8); b += a;
  a -= c; a ^= Rotate(c, 16); c += b;
  b -= a; b ^= Rotate(a, 19); a += c;
  c -= b; c ^= Rotate(b, 4); b += a;
}

inline void Final(uint32_t& a, uint32_t& b, uint32_t& c) {
  c ^= b; c -= Rotate(b, 14);
  a ^= c; a -= Rotate(c, 11);
  b ^= a; b -= Rotate(a, 25);
  c ^= b; c -= Rotate(b, 16);
  a ^= c; a -= Rotate(c, 4);
  b ^= a; b -= Rotate(a, 14);
  c ^= b; c -= Rotate(b, 24);
}

inline Digest HashBytesExtended(const uint8_t* bytes, uint32_t length, Digest seed) {
  uint32_t a = 0x9e3779b9u + length + 3923095u;
  uint32_t b = a;
  uint32_t c = a;
  if ((seed.low | seed.high) != 0) {
    a += seed.high;
    b += seed.low;
    Mix(a, b, c);
  }
  uint32_t rest = length;
  for (; rest >= 12; rest -= 12, bytes += 12) {
    a += Word(bytes);
    b += Word(bytes + 4);
    c += Word(bytes + 8);
    Mix(a, b, c);
  }
  // The lowest byte of c is left to the length, so its three tail bytes start one higher.
  switch (rest) {
    case 11: c += uint32_t{bytes[10]} << 24; [[fallthrough]];
    case 10: c += uint32_t{bytes[9]} << 16; [[fallthrough]];
    case 9: c += uint32_t{bytes[8]} << 8; [[fallthrough]];
    case 8: b += Word(bytes + 4); a += Word(bytes); break;
    case 7: b += uint32_t{bytes[6]} << 16; [[fallthrough]];
    case 6: b += uint32_t{bytes[5]} << 8; [[fallthrough]];
    case 5: b += bytes[4]; [[fallthrough]];
    case 4: a += Word(bytes); break;
    case 3: a += uint32_t{bytes[2]} << 16; [[fallthrough]];
    case 2: a += uint32_t{bytes[1]} << 8; [[fallthrough]];
    case 1: a += bytes[0]; break;
    default: break;
  }
  Final(a, b, c);
  return {c, b};
}

// hash_bytes_uint32_extended: that of the word's four bytes.
inline Digest HashWord(uint32_t word, Digest seed) {
  uint32_t a = 0x9e3779b9u + 4 + 3923095u;
  uint32_t b = a;
  uint32_t c = a;
  if ((seed.low | seed.high) != 0) {
    a += seed.high;
    b += seed.low;
    Mix(a, b, c);
  }
  a += word;
  Final(a, b, c);
  return {c, b};
}
