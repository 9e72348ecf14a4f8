/**
 * `npm run demo`: the main job from end to end on a real three-node cluster, told step by step.
 * `--keep` leaves the cluster and the daemon running.
 */
import { chmod, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CUSTOMERS_DDL, customerRows } from '../support/customers.js';
import { CUSTOMERS_LOAD, startLoad } from '../support/load.js';
import { Guardian } from '../support/guardian.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { stopAllServers } from '../support/postgres.js';
import { waitFor } from '../support/wait.js';
import { Cleanup } from './cleanup.js';
import { checkDiffFile, DRIFTED_KEYS, DRIFT_STATEMENTS, DRIFT_SUMMARY } from './drift.js';
import { expect } from './failure.js';
import { Narrator } from './narrator.js';
import { Programs, programPath, type Daemon, type LogLine } from './programs.js';

const CLUSTER = 'demo';
const TABLE = 'public.customers';
const ROWS = 200_000;
const LOAD_PER_SECOND = 300;
const DIFF_FILE = /^public_customers_diffs-\d{14}\.json$/;
const SUM = 'SELECT count(*), sum(hashtextextended(c::text, 0)) FROM customers c';

interface Demo {
  readonly tell: Narrator;
  readonly directory: string;
  readonly mesh: Mesh;
  readonly programs: Programs;
  /** Ends the daemon and removes the directory when this process is killed. */
  readonly guardian: Guardian;
}

const cleanup = new Cleanup();
let failingPrograms: Programs | undefined;

async function run(keep: boolean): Promise<void> {
  const tell = new Narrator(process.stdout);
  const demo = await startCluster(tell);
  const daemon = await startDaemon(demo);
  await buildTree(demo);

  tell.step('Keep writing on all three nodes');
  const load = startLoad({
    mesh: demo.mesh,
    statements: CUSTOMERS_LOAD,
    existingRows: ROWS,
    ratePerSecond: LOAD_PER_SECOND,
  });
  cleanup.add('stop the load', async () => {
    await load.stop();
  });
  await waitFor(() => load.hasFailed || load.writes >= LOAD_PER_SECOND, { what: 'the load' });
  tell.say(`Inserts, updates and deletes, ${LOAD_PER_SECOND} a second; they go on until the end.`);
  await diffUnderLoad(demo);
  await makeDrift(demo);
  await seeAlert(demo);
  const diffFile = await findDrift(demo);
  await repair(demo, diffFile);
  await seeResolved(demo);
  await diffAgain(demo);

  const { writes } = await load.stop();
  await checkEveryRow(demo, writes);
  tell.blank();
  tell.say(`Done in ${tell.seconds} s.`);
  if (keep) await keepRunning(demo, daemon);
}

async function startCluster(tell: Narrator): Promise<Demo> {
  tell.step('Start three PostgreSQL 18 nodes that replicate to each other');
  const directory = await mkdtemp(join(tmpdir(), 'aced-demo-'));
  const guardian = new Guardian(directory, undefined);
  cleanup.add(`remove ${directory}`, async () => {
    await rm(directory, { recursive: true, force: true });
    guardian.release();
  });
  cleanup.add('stop the nodes', stopAllServers);
  const settings = { shared_buffers: '128MB', track_commit_timestamp: 'on' };
  const mesh = await startMesh({ nodes: 3, cluster: CLUSTER, tables: CUSTOMERS_DDL, settings });
  tell.say(
    'Native logical replication, multi-master: each node subscribes to both others, WITH (origin = none).',
  );
  const serviceFile = await mesh.writeServiceFile(directory);
  tell.say('aced and acectl need a service file, in the form that ACE uses:');
  tell.command(`cat ${serviceFile}`);
  tell.output(await readFile(serviceFile, 'utf8'));
  const programs = new Programs({ directory, serviceFile, cluster: CLUSTER, guardian });
  failingPrograms = programs;

  tell.step(`Load ${ROWS.toLocaleString('en')} customers`);
  await mesh.query('n1', `INSERT INTO customers ${customerRows(1, ROWS)}`);
  await mesh.waitForReplication();
  await mesh.queryAll('VACUUM ANALYZE customers');
  tell.say('Inserted on n1; replication has brought them to n2 and n3. 14 columns.');
  return { tell, directory, mesh, programs, guardian };
}

async function startDaemon({ tell, programs }: Demo): Promise<Daemon> {
  tell.step('Start the daemon');
  for (const [name, value] of Object.entries(programs.settings)) {
    tell.command(`export ${name}=${value}`);
  }
  tell.command(`aced --cluster ${CLUSTER} > ${programs.daemonLog} &`);
  const daemon = await programs.startDaemon();
  cleanup.add('stop aced', async () => {
    await daemon.stop();
  });
  return daemon;
}

async function buildTree(demo: Demo): Promise<void> {
  demo.tell.step('Build a Merkle tree of the table');
  await acectl(demo, 0, ['mtree', 'init', CLUSTER]);
  await acectl(demo, 0, ['mtree', 'build', CLUSTER, TABLE]);
}

async function diffUnderLoad(demo: Demo): Promise<void> {
  const lines = await acectl(demo, 0, ['mtree', 'table-diff', CLUSTER, TABLE]);
  expectLine(lines, 'TABLES MATCH');
  demo.tell.check('equal while it is being written: rows still in flight are no difference');
}

async function makeDrift({ tell, mesh }: Demo): Promise<void> {
  tell.step('Make rows on n2 drift');
  tell.say(
    'Writes under a replication origin, which subscriptions WITH (origin = none) leave out.',
  );
  tell.say(`${DRIFT_SUMMARY}, on n2 only:`);
  for (const statement of DRIFT_STATEMENTS.slice(0, 2)) {
    tell.output(`${statement.slice(0, 74)}...`);
  }
  await mesh.driftSql('n2', DRIFT_STATEMENTS.join(';\n'));
  await mesh.waitForReplication();
}

/** Nobody has asked the daemon for anything. */
async function seeAlert(demo: Demo): Promise<void> {
  const { tell, programs } = demo;
  tell.step('The daemon says so by itself');
  const isComplete = ({ event, rows }: LogLine): boolean =>
    /^drift_(opened|updated)$/.test(String(event)) && rows === DRIFTED_KEYS.length;
  const line = await programs.logLine(isComplete, 'all rows that drifted');
  tell.command(`grep drift_ ${programs.daemonLog}`);
  for (const text of await programs.logLines(/"event":"drift_/)) tell.output(text);
  const opened = await programs.logLine(({ event }) => event === 'drift_opened', 'drift_opened');
  tell.check(
    `${String(line['rows'])} rows of ${String(line['table'])}; the first was reported ` +
      `${String(opened['detectedAfterMs'])} ms after a commit made it differ`,
  );
  await acectl(demo, 1, ['drift', 'list', CLUSTER]);
}

async function seeResolved({ tell, programs }: Demo): Promise<void> {
  const line = await programs.logLine(({ event }) => event === 'drift_resolved', 'drift_resolved');
  tell.command(`grep drift_resolved ${programs.daemonLog}`);
  for (const text of await programs.logLines(/"event":"drift_resolved"/)) tell.output(text);
  expect(line['how'] === 'repair', 'the incident was not resolved by the repair');
  tell.check('every stream has shown the fix');
}

/** Returns the diff file's name. */
async function findDrift(demo: Demo): Promise<string> {
  demo.tell.step('Find the drift');
  const lines = await acectl(demo, 1, ['mtree', 'table-diff', CLUSTER, TABLE]);
  expectLine(lines, 'TABLES DO NOT MATCH');
  const [file, ...more] = (await readdir(demo.directory)).filter((name) => DIFF_FILE.test(name));
  expect(file !== undefined && more.length === 0, 'table-diff did not write exactly one diff file');
  expectLine(lines, file);
  await checkDiffFile(join(demo.directory, file));
  demo.tell.check(
    `exit code 1; the diff file has exactly the ${DRIFTED_KEYS.length} rows that drifted`,
  );
  return file;
}

async function repair(demo: Demo, diffFile: string): Promise<void> {
  demo.tell.step('Repair n2 from n1');
  await acectl(demo, 0, [
    'table-repair',
    CLUSTER,
    TABLE,
    `--diff-file=${diffFile}`,
    '--source-of-truth=n1',
  ]);
}

async function diffAgain(demo: Demo): Promise<void> {
  demo.tell.step('Look again');
  const lines = await acectl(demo, 0, ['mtree', 'table-diff', CLUSTER, TABLE]);
  expectLine(lines, 'TABLES MATCH');
  demo.tell.check('exit code 0; the tables match');
  await acectl(demo, 0, ['status', CLUSTER]);
}

/** Does not take the word of aced for it. */
async function checkEveryRow({ tell, mesh }: Demo, writes: number): Promise<void> {
  tell.step('Check every row with plain SQL');
  tell.say(`The load has stopped after ${writes.toLocaleString('en')} writes. On each node:`);
  await mesh.waitForReplication();
  tell.command(`psql -c "${SUM}"`);
  const sums = await Promise.all(
    mesh.names.map(async (name) => (await mesh.query(name, SUM)).flat().join(' rows, sum ')),
  );
  for (const [index, sum] of sums.entries()) tell.output(`${mesh.names[index] ?? ''}: ${sum}`);
  expect(new Set(sums).size === 1, 'the tables differ although aced says that they match');
  tell.check('the same on all nodes');
}

async function keepRunning(demo: Demo, daemon: Daemon): Promise<void> {
  const { tell, programs, mesh, directory } = demo;
  const pids = [...mesh.nodes.values()].map((server) => server.pid ?? 0);
  const serverDirectories = mesh.detach();
  demo.guardian.release();
  cleanup.cancel();
  const stopScript = join(directory, 'stop.sh');
  await writeFile(
    stopScript,
    `#!/bin/sh
end() { kill -$1 $2 2>/dev/null; while kill -0 $2 2>/dev/null; do sleep 0.1; done; }
end TERM ${daemon.pid}
for pid in ${pids.join(' ')}; do end QUIT $pid; done
rm -rf ${[...serverDirectories, directory].join(' ')}
`,
  );
  await chmod(stopScript, 0o755);
  const onNode = join(directory, 'on.sh');
  await writeFile(onNode, onNodeScript(mesh));
  await chmod(onNode, 0o755);
  tell.step('Left running');
  tell.say('Talk to the daemon:');
  tell.command(`cd ${directory}`);
  for (const [name, value] of Object.entries(programs.settings)) {
    tell.command(`export ${name}=${value}`);
  }
  tell.command(`alias acectl='${process.execPath} ${programPath('acectl')}'`);
  tell.command(`acectl mtree table-diff ${CLUSTER} ${TABLE}`);
  tell.say(
    'Make drift of your own: watch in one terminal, and in another change a row on n2 alone.',
  );
  tell.say(
    'The event comes by itself; detectedAfterMs is how long after the commit. Then undo it.',
  );
  tell.command(`acectl drift watch ${CLUSTER}   # or everything, live: acectl top ${CLUSTER}`);
  tell.command(`./on.sh n2 --alone "UPDATE ${TABLE} SET balance = balance + 1 WHERE id = 3"`);
  tell.command(`./on.sh n2 --alone "UPDATE ${TABLE} SET balance = balance - 1 WHERE id = 3"`);
  tell.say(
    'A change without --alone replicates, and no event comes. The same with psql, if you have it:',
  );
  for (const { host, port, user, database, name } of mesh.nodeConfigs()) {
    tell.command(`psql -h ${host} -p ${port} -U ${user} ${database}   # ${name}`);
  }
  tell.say(`The daemon's log is ${programs.daemonLog}. Stop everything:`);
  tell.command(stopScript);
}

/** Who tries the demo may have no psql. */
function onNodeScript(mesh: Mesh): string {
  const cases = mesh
    .nodeConfigs()
    .map(
      ({ name, host, port, user, database }) =>
        `  ${name}) at="${host} ${port} ${user} ${database}" ;;`,
    );
  return `#!/bin/sh
# usage: on.sh node [--alone] "statement"
case "$1" in
${cases.join('\n')}
  *) echo "usage: on.sh ${mesh.names.join('|')} [--alone] \\"statement\\"" >&2; exit 2 ;;
esac
shift
exec ${process.execPath} ${fileURLToPath(new URL('./on-node.js', import.meta.url))} $at "$@"
`;
}

async function acectl(demo: Demo, exitCode: number, args: string[]): Promise<readonly string[]> {
  const shown = `acectl ${args.join(' ')}`;
  demo.tell.command(shown);
  const result = await demo.programs.acectl(args, (line) => demo.tell.output(line));
  expect(
    result.exitCode === exitCode,
    `"${shown}" ended with exit code ${result.exitCode ?? 'none'}, expected was ${exitCode}`,
  );
  return result.lines;
}

function expectLine(lines: readonly string[], part: string): void {
  expect(
    lines.some((line) => line.includes(part)),
    `the output lacks "${part}"`,
  );
}

let isEnding = false;

/** The one way out; whatever asks first decides the exit code. */
async function end(exitCode: number, message?: string): Promise<void> {
  if (isEnding) return;
  isEnding = true;
  if (message !== undefined) process.stderr.write(`\n${message}\n`);
  await cleanup.run();
  process.exit(exitCode);
}

async function fail(error: unknown): Promise<void> {
  if (isEnding) return;
  const reason = error instanceof Error ? error.message : String(error);
  const tail = (await failingPrograms?.daemonLogTail()) ?? '';
  const log = tail === '' ? '' : `\nThe daemon's last words:\n${tail}`;
  await end(1, `The demo failed: ${reason}${log}`);
}

function onSignal(exitCode: number): void {
  // The second time: at once. The guardians still end what is left.
  if (isEnding) process.exit(exitCode);
  void end(exitCode, 'Stopping everything...');
}

process.on('SIGINT', () => onSignal(130));
process.on('SIGTERM', () => onSignal(143));
process.on('SIGHUP', () => onSignal(129));
process.on('uncaughtException', (error) => void fail(error));
process.on('unhandledRejection', (error) => void fail(error));

try {
  const { values } = parseArgs({ options: { keep: { type: 'boolean', default: false } } });
  await run(values.keep);
  await end(0);
} catch (error) {
  await fail(error);
}
