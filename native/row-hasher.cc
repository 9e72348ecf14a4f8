// The digest of one row: its columns hashed one on top of the other, by their text or by their value.
// The JavaScript twin is src/digest/row-hasher.ts.
//
// A hasher is a function of one argument, the buffer with the column texts. Everything else goes
// through one Int32Array that the hasher owns and whose memory stays where it is: asking Node-API
// for the address of a typed array costs more than hashing a short column does.

#include "addon.h"
#include "hash.h"
#include "value-hash.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace {

// Layout of the shared Int32Array; src/base/native.ts has the same numbers.
constexpr uint32_t kResultLow = 0;
constexpr uint32_t kResultHigh = 1;
// Not 0: a column's text is none of its type, and there is no digest.
constexpr uint32_t kStatus = 2;
constexpr uint32_t kFirstRange = 3;
// A start of -1 means SQL NULL; the range's end is not looked at.
constexpr int32_t kNullStart = -1;

// A row of PostgreSQL has at most 1600 columns; the limit keeps the allocation sane.
constexpr uint32_t kMaxColumns = 65536;

struct Hasher {
  Digest seed;
  // One of value-hash.h's per column.
  std::vector<uint8_t> forms;
  std::string null_token;
  // Digits of a numeric; kept, so that no row allocates.
  std::vector<uint8_t> scratch;
  // Of the values, in their order; see kMarksPerWord.
  std::vector<int32_t> mark_words;
  int32_t* shared;
  // Strong: while the function can be called, the shared memory exists.
  napi_ref shared_buffer;
};

napi_value Fail(napi_env env, const char* message) {
  napi_throw_range_error(env, nullptr, message);
  return nullptr;
}

void Mark(Hasher& hasher, uint32_t index, int32_t mark) {
  const uint32_t place = index % kMarksPerWord;
  if (place == 0) hasher.mark_words.push_back(0);
  // A mark may be -1: shifting that is left to the multiplication.
  hasher.mark_words.back() += mark * (int32_t{1} << (2 * place));
}

void Change(uint32_t run, Digest& digest) {
  const uint64_t word = kRunWord * run;
  digest.low ^= static_cast<uint32_t>(word);
  digest.high ^= static_cast<uint32_t>(word >> 32);
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
  Hasher& hasher = *static_cast<Hasher*>(data);
  const uint8_t* bytes = static_cast<const uint8_t*>(address);
  const int32_t* range = hasher.shared + kFirstRange;
  Digest digest = hasher.seed;
  uint32_t marks = 0;
  uint32_t run = 0;
  hasher.mark_words.clear();
  for (const uint8_t form : hasher.forms) {
    const int32_t start = range[0];
    const int32_t end = range[1];
    range += 2;
    const bool is_null = start == kNullStart;
    if (!is_null && (start < 0 || end < start || static_cast<size_t>(end) > length)) {
      return Fail(env, "row hasher: a column lies outside the buffer");
    }
    if (form != kDecimal && form != kBool) run = 0;
    const Text text = is_null ? Text{nullptr, nullptr} : Text{bytes + start, bytes + end};
    if (form >= kFirstValueForm) {
      if (form == kDecimal) Change(run++, digest);
      const int32_t mark = HashValue(form, text, hasher.scratch, digest);
      if (mark == kUnreadable) {
        hasher.shared[kStatus] = 1;
        return nullptr;
      }
      Mark(hasher, marks++, mark);
    } else if (is_null) {
      digest = HashBytesExtended(reinterpret_cast<const uint8_t*>(hasher.null_token.data()),
                                 static_cast<uint32_t>(hasher.null_token.size()), digest);
    } else {
      const uint8_t* stop = form == kTrimmedText ? TrimmedEnd(text) : text.end;
      digest = HashBytesExtended(text.begin, static_cast<uint32_t>(stop - text.begin), digest);
    }
  }
  for (const int32_t word : hasher.mark_words) {
    digest = HashWord(static_cast<uint32_t>(word), digest);
  }
  hasher.shared[kResultLow] = static_cast<int32_t>(digest.low);
  hasher.shared[kResultHigh] = static_cast<int32_t>(digest.high);
  hasher.shared[kStatus] = 0;
  return nullptr;
}

void DeleteHasher(napi_env env, void* data, void*) {
  Hasher* hasher = static_cast<Hasher*>(data);
  napi_delete_reference(env, hasher->shared_buffer);
  delete hasher;
}

}  // namespace

napi_value CreateRowHasher(napi_env env, napi_callback_info info) {
  size_t argument_count = 4;
  napi_value arguments[4];
  int32_t seed_low;
  int32_t seed_high;
  void* token;
  size_t token_length;
  void* forms;
  size_t column_count;
  if (napi_get_cb_info(env, info, &argument_count, arguments, nullptr, nullptr) != napi_ok ||
      argument_count < 4 || napi_get_value_int32(env, arguments[0], &seed_low) != napi_ok ||
      napi_get_value_int32(env, arguments[1], &seed_high) != napi_ok ||
      napi_get_buffer_info(env, arguments[2], &token, &token_length) != napi_ok ||
      napi_get_buffer_info(env, arguments[3], &forms, &column_count) != napi_ok ||
      token_length > INT32_MAX || column_count > kMaxColumns) {
    return Fail(env, "row hasher: bad arguments");
  }
  auto hasher = std::make_unique<Hasher>();
  hasher->seed = {static_cast<uint32_t>(seed_low), static_cast<uint32_t>(seed_high)};
  if (column_count > 0) {
    const uint8_t* first = static_cast<const uint8_t*>(forms);
    hasher->forms.assign(first, first + column_count);
  }
  for (const uint8_t form : hasher->forms) {
    if (form > kLastForm) return Fail(env, "row hasher: a form that is not known");
  }
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
