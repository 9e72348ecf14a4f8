// PostgreSQL's hash_bytes_extended (Bob Jenkins' lookup3, 64-bit result), chained over the columns
// of one row. The JavaScript twin is src/digest/hash.ts; golden vectors hold the two to a server.
//
// A hasher is a function of one argument, the buffer with the column texts. Everything else goes
// through one Int32Array that the hasher owns and whose memory stays where it is: asking Node-API
// for the address of a typed array costs more than hashing a short column does.

#include "addon.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>

namespace {

// Layout of the shared Int32Array; src/base/native.ts has the same numbers.
constexpr uint32_t kResultLow = 0;
constexpr uint32_t kResultHigh = 1;
constexpr uint32_t kFirstRange = 2;
// A start of -1 means SQL NULL; the range's end is not looked at.
constexpr int32_t kNullStart = -1;

// A row of PostgreSQL has at most 1600 columns; the limit keeps the allocation sane.
constexpr uint32_t kMaxColumns = 65536;

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
  c ^= b; c -= Rotate(b, 14);
  a ^= c; a -= Rotate(c, 11);
  b ^= a; b -= Rotate(a, 25);
  c ^= b; c -= Rotate(b, 16);
  a ^= c; a -= Rotate(c, 4);
  b ^= a; b -= Rotate(a, 14);
  c ^= b; c -= Rotate(b, 24);
  return {c, b};
}

struct Hasher {
  Digest seed;
  uint32_t column_count;
  std::string null_token;
  int32_t* shared;
  // Strong: while the function can be called, the shared memory exists.
  napi_ref shared_buffer;
};

napi_value Fail(napi_env env, const char* message) {
  napi_throw_range_error(env, nullptr, message);
  return nullptr;
}

// hash(buffer): digest of the ranges in the shared array, into its first two elements.
napi_value Hash(napi_env env, napi_callback_info info) {
  size_t argument_count = 1;
  napi_value argument;
  void* data;
  if (napi_get_cb_info(env, info, &argument_count, &argument, nullptr, &data) != napi_ok) {
    return Fail(env, "row hasher: bad call");
  }
  void* address;
  size_t length;
  if (argument_count < 1 || napi_get_buffer_info(env, argument, &address, &length) != napi_ok) {
    return Fail(env, "row hasher: the argument is no Buffer");
  }
  const Hasher* hasher = static_cast<const Hasher*>(data);
  const uint8_t* bytes = static_cast<const uint8_t*>(address);
  const uint8_t* token = reinterpret_cast<const uint8_t*>(hasher->null_token.data());
  const uint32_t token_length = static_cast<uint32_t>(hasher->null_token.size());
  const int32_t* range = hasher->shared + kFirstRange;
  Digest digest = hasher->seed;
  for (uint32_t i = 0; i < hasher->column_count; i++, range += 2) {
    const int32_t start = range[0];
    if (start == kNullStart) {
      digest = HashBytesExtended(token, token_length, digest);
      continue;
    }
    const int32_t end = range[1];
    if (start < 0 || end < start || static_cast<size_t>(end) > length) {
      return Fail(env, "row hasher: a column lies outside the buffer");
    }
    digest = HashBytesExtended(bytes + start, static_cast<uint32_t>(end - start), digest);
  }
  hasher->shared[kResultLow] = static_cast<int32_t>(digest.low);
  hasher->shared[kResultHigh] = static_cast<int32_t>(digest.high);
  return nullptr;
}

void DeleteHasher(napi_env env, void* data, void*) {
  Hasher* hasher = static_cast<Hasher*>(data);
  napi_delete_reference(env, hasher->shared_buffer);
  delete hasher;
}

}  // namespace

napi_value CreateHasher(napi_env env, napi_callback_info info) {
  size_t argument_count = 4;
  napi_value arguments[4];
  int32_t seed_low;
  int32_t seed_high;
  void* token;
  size_t token_length;
  uint32_t column_count;
  if (napi_get_cb_info(env, info, &argument_count, arguments, nullptr, nullptr) != napi_ok ||
      argument_count < 4 || napi_get_value_int32(env, arguments[0], &seed_low) != napi_ok ||
      napi_get_value_int32(env, arguments[1], &seed_high) != napi_ok ||
      napi_get_buffer_info(env, arguments[2], &token, &token_length) != napi_ok ||
      napi_get_value_uint32(env, arguments[3], &column_count) != napi_ok ||
      token_length > INT32_MAX || column_count > kMaxColumns) {
    return Fail(env, "row hasher: bad arguments");
  }
  auto hasher = std::make_unique<Hasher>();
  hasher->seed = {static_cast<uint32_t>(seed_low), static_cast<uint32_t>(seed_high)};
  hasher->column_count = column_count;
  if (token_length > 0) hasher->null_token.assign(static_cast<const char*>(token), token_length);

  const size_t element_count = kFirstRange + size_t{2} * column_count;
  void* memory;
  napi_value buffer;
  napi_value shared;
  napi_value function;
  napi_value result;
  if (napi_create_arraybuffer(env, element_count * sizeof(int32_t), &memory, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_int32_array, element_count, buffer, 0, &shared) != napi_ok ||
      napi_create_function(env, "hash", NAPI_AUTO_LENGTH, Hash, hasher.get(), &function) !=
          napi_ok ||
      napi_create_object(env, &result) != napi_ok ||
      napi_set_named_property(env, result, "shared", shared) != napi_ok ||
      napi_set_named_property(env, result, "hash", function) != napi_ok ||
      napi_create_reference(env, buffer, 1, &hasher->shared_buffer) != napi_ok) {
    return Fail(env, "row hasher: out of memory");
  }
  hasher->shared = static_cast<int32_t*>(memory);
  if (napi_add_finalizer(env, function, hasher.get(), DeleteHasher, nullptr, nullptr) != napi_ok) {
    napi_delete_reference(env, hasher->shared_buffer);
    return Fail(env, "row hasher: out of memory");
  }
  hasher.release();
  return result;
}
