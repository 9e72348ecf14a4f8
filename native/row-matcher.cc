// Finds the values in JSON objects that repeat one layout: the same names, blanks and punctuation
// between values that may differ. src/diff-file/row-matcher.ts learns the layout from a row that was
// read member by member, and reads that way again whatever does not match: an object of another
// layout, one that the buffer cuts off, or anything that is no JSON.
//
// Values are judged as src/diff-file/json-scan.ts judges them.

#include "addon.h"

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace {

// Layout of the shared Int32Array; src/base/native.ts has the same numbers.
constexpr uint32_t kMatchedRows = 0;
constexpr uint32_t kMatchedEnd = 1;
constexpr uint32_t kFirstPlace = 2;

// Limits that keep the allocation sane; a row of PostgreSQL has at most 1600 columns.
constexpr uint32_t kMaxLiterals = 65536;
constexpr uint32_t kMaxRows = 65536;
constexpr size_t kMaxPlaces = size_t{1} << 24;

struct Matcher {
  // Values lie between them: one literal more than there are values.
  std::vector<std::string> literals;
  // For each value whether its place is reported.
  std::vector<bool> is_wanted;
  uint32_t wanted_count;
  uint32_t max_rows;
  int32_t* shared;
  // Strong: while the function can be called, the shared memory exists.
  napi_ref shared_buffer;
};

inline bool IsBlank(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }
inline bool IsDigit(uint8_t c) { return c >= '0' && c <= '9'; }

// The functions below return the position after what they skip; null: it is not there.

const uint8_t* SkipString(const uint8_t* p, const uint8_t* end) {
  for (p++; p < end; p++) {
    if (*p == '"') return p + 1;
    if (*p == '\\') p++;
  }
  return nullptr;
}

const uint8_t* SkipComposite(const uint8_t* p, const uint8_t* end) {
  int64_t depth = 0;
  while (p < end) {
    const uint8_t c = *p;
    if (c == '"') {
      p = SkipString(p, end);
      if (p == nullptr) return nullptr;
      continue;
    }
    p++;
    if (c == '{' || c == '[') {
      depth++;
    } else if (c == '}' || c == ']') {
      depth--;
      if (depth == 0) return p;
    }
  }
  return nullptr;
}

const uint8_t* SkipDigits(const uint8_t* p, const uint8_t* end) {
  if (p == end || !IsDigit(*p)) return nullptr;
  while (p < end && IsDigit(*p)) p++;
  return p;
}

const uint8_t* SkipNumber(const uint8_t* p, const uint8_t* end) {
  if (p < end && *p == '-') p++;
  const bool starts_with_zero = p < end && *p == '0';
  p = starts_with_zero ? p + 1 : SkipDigits(p, end);
  if (p != nullptr && p < end && *p == '.') p = SkipDigits(p + 1, end);
  if (p != nullptr && p < end && (*p == 'e' || *p == 'E')) {
    p++;
    if (p < end && (*p == '+' || *p == '-')) p++;
    p = SkipDigits(p, end);
  }
  return p;
}

const uint8_t* SkipWord(const uint8_t* p, const uint8_t* end, const char* word) {
  const size_t length = std::strlen(word);
  const bool is_there = static_cast<size_t>(end - p) >= length && std::memcmp(p, word, length) == 0;
  return is_there ? p + length : nullptr;
}

// A scalar's end is known only by what follows it, which is the next literal.
const uint8_t* SkipValue(const uint8_t* p, const uint8_t* end) {
  if (p == end) return nullptr;
  switch (*p) {
    case '"': return SkipString(p, end);
    case '{':
    case '[': return SkipComposite(p, end);
    case 't': return SkipWord(p, end, "true");
    case 'f': return SkipWord(p, end, "false");
    case 'n': return SkipWord(p, end, "null");
    default: return SkipNumber(p, end);
  }
}

const uint8_t* SkipBlanks(const uint8_t* p, const uint8_t* end) {
  while (p < end && IsBlank(*p)) p++;
  return p;
}

// Writes the places of the wanted values, relative to `bytes`.
const uint8_t* SkipRow(const Matcher& matcher, const uint8_t* bytes, const uint8_t* p,
                       const uint8_t* end, int32_t* places) {
  const size_t value_count = matcher.is_wanted.size();
  for (size_t i = 0;; i++) {
    const std::string& literal = matcher.literals[i];
    if (static_cast<size_t>(end - p) < literal.size() ||
        std::memcmp(p, literal.data(), literal.size()) != 0) {
      return nullptr;
    }
    p += literal.size();
    if (i == value_count) return p;
    const uint8_t* start = p;
    p = SkipValue(p, end);
    if (p == nullptr) return nullptr;
    if (matcher.is_wanted[i]) {
      *places++ = static_cast<int32_t>(start - bytes);
      *places++ = static_cast<int32_t>(p - bytes);
    }
  }
}

napi_value Fail(napi_env env, const char* message) {
  napi_throw_range_error(env, nullptr, message);
  return nullptr;
}

// match(buffer, start): how many rows from there on, with commas between them, have the layout;
// the end of the last one; and the places of their wanted values, into the shared array.
napi_value Match(napi_env env, napi_callback_info info) {
  size_t argument_count = 2;
  napi_value arguments[2];
  void* data;
  void* address;
  size_t length;
  uint32_t start;
  if (napi_get_cb_info(env, info, &argument_count, arguments, nullptr, &data) != napi_ok ||
      argument_count < 2 ||
      napi_get_buffer_info(env, arguments[0], &address, &length) != napi_ok ||
      napi_get_value_uint32(env, arguments[1], &start) != napi_ok || start > length) {
    return Fail(env, "row matcher: bad call");
  }
  const Matcher& matcher = *static_cast<const Matcher*>(data);
  const uint8_t* bytes = static_cast<const uint8_t*>(address);
  // Places are int32: what lies beyond is read member by member.
  const uint8_t* end = bytes + (length < INT32_MAX ? length : INT32_MAX);
  const uint8_t* matched_end = bytes + start;
  int32_t* places = matcher.shared + kFirstPlace;
  uint32_t rows = 0;
  for (const uint8_t* p = matched_end; rows < matcher.max_rows && p < end;) {
    const uint8_t* row_end = SkipRow(matcher, bytes, p, end, places);
    if (row_end == nullptr) break;
    matched_end = row_end;
    places += 2 * matcher.wanted_count;
    rows++;
    p = SkipBlanks(row_end, end);
    if (p == end || *p != ',') break;
    p = SkipBlanks(p + 1, end);
  }
  matcher.shared[kMatchedRows] = static_cast<int32_t>(rows);
  matcher.shared[kMatchedEnd] = static_cast<int32_t>(matched_end - bytes);
  return nullptr;
}

void DeleteMatcher(napi_env env, void* data, void*) {
  Matcher* matcher = static_cast<Matcher*>(data);
  napi_delete_reference(env, matcher->shared_buffer);
  delete matcher;
}

bool ReadLiterals(napi_env env, napi_value list, std::vector<std::string>& literals) {
  uint32_t count;
  if (napi_get_array_length(env, list, &count) != napi_ok || count == 0 || count > kMaxLiterals) {
    return false;
  }
  for (uint32_t i = 0; i < count; i++) {
    napi_value literal;
    void* address;
    size_t length;
    if (napi_get_element(env, list, i, &literal) != napi_ok ||
        napi_get_buffer_info(env, literal, &address, &length) != napi_ok || length == 0) {
      return false;
    }
    literals.emplace_back(static_cast<const char*>(address), length);
  }
  return true;
}

bool ReadWanted(napi_env env, napi_value list, std::vector<bool>& is_wanted, uint32_t& count) {
  if (napi_get_array_length(env, list, &count) != napi_ok || count > is_wanted.size()) return false;
  for (uint32_t i = 0; i < count; i++) {
    napi_value element;
    uint32_t index;
    if (napi_get_element(env, list, i, &element) != napi_ok ||
        napi_get_value_uint32(env, element, &index) != napi_ok || index >= is_wanted.size() ||
        is_wanted[index]) {
      return false;
    }
    is_wanted[index] = true;
  }
  return true;
}

}  // namespace

napi_value CreateRowMatcher(napi_env env, napi_callback_info info) {
  size_t argument_count = 3;
  napi_value arguments[3];
  auto matcher = std::make_unique<Matcher>();
  if (napi_get_cb_info(env, info, &argument_count, arguments, nullptr, nullptr) != napi_ok ||
      argument_count < 3 || !ReadLiterals(env, arguments[0], matcher->literals)) {
    return Fail(env, "row matcher: bad arguments");
  }
  matcher->is_wanted.assign(matcher->literals.size() - 1, false);
  if (!ReadWanted(env, arguments[1], matcher->is_wanted, matcher->wanted_count) ||
      napi_get_value_uint32(env, arguments[2], &matcher->max_rows) != napi_ok ||
      matcher->max_rows == 0 || matcher->max_rows > kMaxRows) {
    return Fail(env, "row matcher: bad arguments");
  }
  const size_t element_count = kFirstPlace + size_t{2} * matcher->wanted_count * matcher->max_rows;
  if (element_count > kMaxPlaces) return Fail(env, "row matcher: too many places");
  void* memory;
  napi_value buffer;
  napi_value shared;
  napi_value function;
  napi_value result;
  if (napi_create_arraybuffer(env, element_count * sizeof(int32_t), &memory, &buffer) != napi_ok ||
      napi_create_typedarray(env, napi_int32_array, element_count, buffer, 0, &shared) != napi_ok ||
      napi_create_function(env, "match", NAPI_AUTO_LENGTH, Match, matcher.get(), &function) !=
          napi_ok ||
      napi_create_object(env, &result) != napi_ok ||
      napi_set_named_property(env, result, "shared", shared) != napi_ok ||
      napi_set_named_property(env, result, "match", function) != napi_ok ||
      napi_create_reference(env, buffer, 1, &matcher->shared_buffer) != napi_ok) {
    return Fail(env, "row matcher: out of memory");
  }
  matcher->shared = static_cast<int32_t*>(memory);
  if (napi_add_finalizer(env, function, matcher.get(), DeleteMatcher, nullptr, nullptr) != napi_ok) {
    napi_delete_reference(env, matcher->shared_buffer);
    return Fail(env, "row matcher: out of memory");
  }
  matcher.release();
  return result;
}
