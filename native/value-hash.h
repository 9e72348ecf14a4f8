// Columns that are hashed by their value: the text of the stream is read, and the value hashed as
// PostgreSQL's own functions do it in src/digest/value-sql.ts. The JavaScript twin, which says more of
// the why, is src/digest/value-hash.ts.

#pragma once

#include "hash.h"

#include <cstdint>
#include <cstring>
#include <vector>

// src/digest/value-form.ts has the same numbers.
constexpr uint8_t kTrimmedText = 1;
constexpr uint8_t kInt4 = 2;
constexpr uint8_t kFirstValueForm = kInt4;
constexpr uint8_t kInt8 = 3;
constexpr uint8_t kBool = 4;
constexpr uint8_t kDecimal = 5;
constexpr uint8_t kDate = 6;
constexpr uint8_t kTimestamp = 7;
constexpr uint8_t kTimestampTz = 8;
constexpr uint8_t kUuid = 9;
constexpr uint8_t kLastForm = kUuid;

constexpr uint32_t kMarksPerWord = 15;
// What the digest is changed by before a numeric that follows another one; see runWord in
// src/digest/value-form.ts.
constexpr uint64_t kRunWord = 0x9e3779b97f4a7c15u;
// No mark, which is -1 to 2: the text is none of the type's.
constexpr int32_t kUnreadable = 3;

// A null begin is SQL NULL.
struct Text {
  const uint8_t* begin;
  const uint8_t* end;
};

constexpr uint32_t kInfiniteFold = 0x80000000u;
constexpr uint32_t kMinusInfiniteFold = 0x7fffffffu;

template <size_t size>
inline bool Is(Text text, const char (&word)[size]) {
  return static_cast<size_t>(text.end - text.begin) == size - 1 &&
         std::memcmp(text.begin, word, size - 1) == 0;
}

template <size_t size>
inline bool EndsWith(Text text, const char (&word)[size]) {
  return static_cast<size_t>(text.end - text.begin) >= size - 1 &&
         std::memcmp(text.end - (size - 1), word, size - 1) == 0;
}

// One to 19 digits.
inline bool ReadDigits(const uint8_t* p, const uint8_t* end, uint64_t& value) {
  if (end - p < 1 || end - p > 19) return false;
  value = 0;
  for (; p < end; p++) {
    const uint32_t digit = uint32_t{*p} - '0';
    if (digit > 9) return false;
    value = value * 10 + digit;
  }
  return true;
}

// Two digits, or more than 99.
inline uint32_t TwoDigits(const uint8_t* p) {
  const uint32_t tens = uint32_t{p[0]} - '0';
  const uint32_t units = uint32_t{p[1]} - '0';
  return tens > 9 || units > 9 ? 100 : tens * 10 + units;
}

inline bool ReadInteger(Text text, int64_t& value) {
  const bool is_negative = text.begin < text.end && *text.begin == '-';
  uint64_t digits;
  if (!ReadDigits(text.begin + is_negative, text.end, digits)) return false;
  if (digits > (uint64_t{1} << 63) - !is_negative) return false;
  value = static_cast<int64_t>(is_negative ? uint64_t{0} - digits : digits);
  return true;
}

// What hashint8extended makes of a value.
inline uint32_t Fold(int64_t value) {
  const uint32_t high = static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32);
  return static_cast<uint32_t>(value) ^ (value >= 0 ? high : ~high);
}

inline int32_t HashInt4(Text text, Digest& digest) {
  int64_t value = 0;
  const bool is_null = text.begin == nullptr;
  if (!is_null && (!ReadInteger(text, value) || value != static_cast<int32_t>(value))) {
    return kUnreadable;
  }
  digest = HashWord(static_cast<uint32_t>(value), digest);
  return is_null;
}

inline int32_t HashInt8(Text text, Digest& digest) {
  int64_t value = 0;
  const bool is_null = text.begin == nullptr;
  if (!is_null && !ReadInteger(text, value)) return kUnreadable;
  digest = HashWord(static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32), digest);
  digest = HashWord(Fold(value), digest);
  return is_null;
}

inline int32_t BoolMark(Text text) {
  if (text.begin == nullptr) return 2;
  if (Is(text, "t")) return 1;
  return Is(text, "f") ? 0 : kUnreadable;
}

inline int32_t HashZero(int32_t mark, Digest& digest) {
  if (digest.low == 0) digest.high--;
  digest.low--;
  return mark;
}

inline int32_t HashDecimal(Text text, std::vector<uint8_t>& groups, Digest& digest) {
  if (text.begin == nullptr) return HashZero(2, digest);
  if (Is(text, "NaN")) return 1;
  const bool is_negative = text.begin < text.end && *text.begin == '-';
  const uint8_t* first = text.begin + is_negative;
  const uint8_t* dot = first;
  while (dot < text.end && *dot != '.') dot++;
  if (dot == first) return kUnreadable;
  const ptrdiff_t whole = dot - first;
  const ptrdiff_t fraction = text.end - dot > 1 ? text.end - dot - 1 : 0;
  int32_t weight = static_cast<int32_t>((whole + 3) / 4) - 1;
  groups.clear();
  uint32_t group = 0;
  // How many digits this group still takes; the first one has fewer if the number is not a multiple.
  int places = static_cast<int>((whole + 3) % 4) + 1;
  const auto add = [&](uint32_t value) {
    if (value == 0 && groups.empty()) {
      weight--;
      return;
    }
    groups.push_back(static_cast<uint8_t>(value));
    groups.push_back(static_cast<uint8_t>(value >> 8));
  };
  for (const uint8_t* p = first; p < text.end; p++) {
    if (p == dot) continue;
    const uint32_t digit = uint32_t{*p} - '0';
    if (digit > 9) return kUnreadable;
    group = group * 10 + digit;
    if (--places > 0) continue;
    add(group);
    group = 0;
    places = 4;
  }
  if (fraction % 4 != 0) {
    for (; places > 0; places--) group *= 10;
    add(group);
  }
  size_t length = groups.size();
  while (length > 0 && groups[length - 1] == 0 && groups[length - 2] == 0) length -= 2;
  if (length == 0) return HashZero(0, digest);
  digest = HashBytesExtended(groups.data(), static_cast<uint32_t>(length), digest);
  digest.low ^= static_cast<uint32_t>(weight);
  if (weight < 0) digest.high = ~digest.high;
  return is_negative ? -1 : 1;
}

// `y...y-mm-dd`: days since 2000-01-01.
inline bool ReadDay(Text text, bool is_bc, int64_t& day) {
  const uint8_t* end = text.end;
  uint64_t year;
  if (end - text.begin < 7 || end[-3] != '-' || end[-6] != '-' ||
      !ReadDigits(text.begin, end - 6, year) || year > 10'000'000) {
    return false;
  }
  const uint32_t month = TwoDigits(end - 5);
  const uint32_t day_of_month = TwoDigits(end - 2);
  if (month > 12 || day_of_month > 31) return false;
  // Days since the first of March of year 0, in the calendar that goes on for ever.
  const int64_t astronomical = is_bc ? 1 - static_cast<int64_t>(year) : static_cast<int64_t>(year);
  const int64_t shifted = astronomical - (month <= 2);
  const auto floor_by = [shifted](int64_t d) {
    return shifted >= 0 ? shifted / d : -((d - 1 - shifted) / d);
  };
  const int64_t leap_days = floor_by(4) - floor_by(100) + floor_by(400);
  const int64_t day_of_year = static_cast<int64_t>((153 * ((month + 9) % 12) + 2) / 5) +
                              static_cast<int64_t>(day_of_month) - 1;
  day = shifted * 365 + leap_days + day_of_year - 719468 - 10957;
  return true;
}

inline int32_t HashDate(Text text, Digest& digest) {
  int64_t day;
  const bool is_null = text.begin == nullptr;
  if (is_null || Is(text, "-infinity")) {
    day = INT32_MIN;
  } else if (Is(text, "infinity")) {
    day = INT32_MAX;
  } else {
    const bool is_bc = EndsWith(text, " BC");
    if (!ReadDay({text.begin, is_bc ? text.end - 3 : text.end}, is_bc, day) ||
        day != static_cast<int32_t>(day)) {
      return kUnreadable;
    }
  }
  digest = HashWord(static_cast<uint32_t>(day), digest);
  return is_null;
}

// `y...y-mm-dd hh:mm:ss[.f...f]`, `+00` of a timestamptz, ` BC`: microseconds since 2000-01-01.
inline bool ReadTimestamp(Text text, int64_t& micros) {
  const bool is_bc = EndsWith(text, " BC");
  if (is_bc) text.end -= 3;
  if (EndsWith(text, "+00")) text.end -= 3;
  const uint8_t* time = text.begin;
  while (time < text.end && *time != ' ') time++;
  int64_t day;
  if (!ReadDay({text.begin, time}, is_bc, day)) return false;
  time++;
  if (text.end - time < 8 || time[2] != ':' || time[5] != ':') return false;
  const uint32_t hour = TwoDigits(time);
  const uint32_t minute = TwoDigits(time + 3);
  const uint32_t second = TwoDigits(time + 6);
  if (hour > 24 || minute > 59 || second > 60) return false;
  uint64_t fraction = 0;
  if (text.end - time > 8) {
    const uint8_t* p = time + 9;
    if (time[8] != '.' || text.end - p > 6 || !ReadDigits(p, text.end, fraction)) return false;
    for (ptrdiff_t digits = text.end - p; digits < 6; digits++) fraction *= 10;
  }
  const int64_t seconds =
      day * 86400 + int64_t{hour * 3600 + minute * 60 + second};
  if (seconds > INT64_MAX / 1'000'000 - 1 || seconds < INT64_MIN / 1'000'000 + 1) return false;
  micros = seconds * 1'000'000 + static_cast<int64_t>(fraction);
  return true;
}

inline int32_t HashTimestamp(Text text, Digest& digest) {
  // Upper half of the first timestamp there is.
  constexpr int64_t kFirstUpper = -49316671;
  uint32_t whole;
  uint32_t upper;
  int32_t mark;
  if (text.begin == nullptr || Is(text, "-infinity")) {
    whole = upper = kMinusInfiniteFold;
    mark = text.begin == nullptr ? 2 : -1;
  } else if (Is(text, "infinity")) {
    whole = upper = kInfiniteFold;
    mark = 1;
  } else {
    int64_t micros;
    if (!ReadTimestamp(text, micros)) return kUnreadable;
    const int64_t high = micros >> 32;
    whole = Fold(micros);
    upper = high <= kFirstUpper ? kInfiniteFold : Fold(static_cast<int64_t>(micros & ~int64_t{0xffffffff}));
    mark = (micros > 0) - (micros < 0);
  }
  digest = HashWord(whole, HashWord(upper, digest));
  return mark;
}

// By character; -1: no hexadecimal digit as the server writes it.
struct HexDigits {
  int8_t of[256];
  constexpr HexDigits() : of() {
    for (int c = 0; c < 256; c++) {
      const bool is_letter = c >= 'a' && c <= 'f';
      of[c] = static_cast<int8_t>(c >= '0' && c <= '9' ? c - '0' : is_letter ? c - 'a' + 10 : -1);
    }
  }
};
constexpr HexDigits kHexDigits;

inline int32_t HashUuid(Text text, Digest& digest) {
  uint8_t bytes[16] = {};
  if (text.begin != nullptr) {
    if (text.end - text.begin != 36) return kUnreadable;
    const uint8_t* p = text.begin;
    for (int i = 0; i < 16; i++) {
      if ((i == 4 || i == 6 || i == 8 || i == 10) && *p++ != '-') return kUnreadable;
      const int both = kHexDigits.of[p[0]] * 16 | kHexDigits.of[p[1]];
      if (both < 0) return kUnreadable;
      bytes[i] = static_cast<uint8_t>(both);
      p += 2;
    }
  }
  digest = HashBytesExtended(bytes, sizeof bytes, digest);
  return text.begin == nullptr;
}

// Hashes the value on top of `digest`; returns the column's mark, or kUnreadable.
inline int32_t HashValue(uint8_t form, Text text, std::vector<uint8_t>& scratch, Digest& digest) {
  switch (form) {
    case kInt4: return HashInt4(text, digest);
    case kInt8: return HashInt8(text, digest);
    case kBool: return BoolMark(text);
    case kDecimal: return HashDecimal(text, scratch, digest);
    case kDate: return HashDate(text, digest);
    case kTimestamp:
    case kTimestampTz: return HashTimestamp(text, digest);
    case kUuid: return HashUuid(text, digest);
    default: return kUnreadable;
  }
}

// Where the text of a numeric ends without trailing zeros of its fraction, as trim_scale() writes it.
inline const uint8_t* TrimmedEnd(Text text) {
  if (std::memchr(text.begin, '.', static_cast<size_t>(text.end - text.begin)) == nullptr) {
    return text.end;
  }
  const uint8_t* end = text.end;
  while (end > text.begin && end[-1] == '0') end--;
  return end > text.begin && end[-1] == '.' ? end - 1 : end;
}
