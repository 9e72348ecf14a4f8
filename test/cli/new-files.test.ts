import assert from 'node:assert/strict';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, beforeEach, describe, it } from 'node:test';
import { configTemplate } from '../../src/config/config-template.js';
import { loadConfig, type LoadOptions } from '../../src/config/load.js';
import { removeDirectory, scratchDirectory } from '../support/context.js';
import { startProgram, type Ended } from './program.js';

describe('commands that write a file', () => {
  let parent: string;
  let root: string;

  before(async () => {
    parent = await scratchDirectory();
  });
  beforeEach(async () => {
    root = await scratchDirectory();
  });
  after(() => removeDirectory(parent));

  const acectl = (...args: string[]): Promise<Ended> =>
    startProgram('acectl', args, { cwd: root, env: { HOME: root } }).ended;
  const options = (cluster: string): LoadOptions => ({ cluster, env: {}, cwd: root, home: root });

  it('config init: a file that changes nothing, and whose lines are the defaults', async () => {
    const made = await acectl('config', 'init');
    assert.deepEqual([made.exitCode, made.stderr], [0, '']);
    assert.match(made.stdout, /Wrote aced\.yaml/);
    const template = await readFile(join(root, 'aced.yaml'), 'utf8');
    assert.equal(template, configTemplate());
    assert.match(template, /^# {3}block_rows: 200$/m);
    assert.match(template, /\[ACED_TREE_BLOCK_ROWS\]/);
    await writeFile(join(root, 'pg_service.conf'), '[hub]\nuser=u\n[hub.n1]\nhost=h\n');
    const { config, ignored } = await loadConfig(options('hub'));
    assert.deepEqual(ignored, []);
    // Every option's line taken in: the same again.
    const lines = template.split('\n').map((line) => line.replace(/^# (( {2})?[a-z_]+:)/, '$1'));
    const schedule = lines.findIndex((line) => line.startsWith('schedule_jobs'));
    await writeFile(join(root, 'aced.yaml'), lines.slice(0, schedule).join('\n'));
    const whole = await loadConfig(options('hub'));
    assert.deepEqual(whole.config, config);
    assert.deepEqual(whole.ignored, []);
  });

  it('never over a file that is there, unless asked', async () => {
    await writeFile(join(root, 'aced.yaml'), 'mine');
    const refused = await acectl('config', 'init');
    assert.equal(refused.exitCode, 2);
    assert.match(refused.stderr, /aced\.yaml is there already/);
    assert.match(refused.stderr, /--force/);
    const printed = await acectl('config', 'init', '-z');
    assert.equal(printed.stdout, configTemplate());
    assert.equal(await readFile(join(root, 'aced.yaml'), 'utf8'), 'mine');
    assert.equal((await acectl('config', 'init', '-x')).exitCode, 0);
    assert.equal(await readFile(join(root, 'aced.yaml'), 'utf8'), configTemplate());
    const nowhere = await acectl('config', 'init', '-p', 'no/such/file');
    assert.equal(nowhere.exitCode, 2);
    assert.match(nowhere.stderr, /cannot write no\/such\/file/);
    assert.deepEqual(await readdir(root), ['aced.yaml']);
  });

  const HOSTS = 'n1=db1:6001,n2=10.0.0.2,n3=[::1]:6003';
  for (const [format, file] of [
    ['service', 'pg_service.conf'],
    ['json', 'prod.json'],
  ] as const) {
    it(`cluster init: a ${file} that is read as it was meant`, async () => {
      const made = await acectl(
        ...['cluster', 'init', 'prod', '--hosts', HOSTS, '--dbname', 'shop', '--user', 'me'],
        ...['--format', format, '--sslmode', 'require'],
      );
      assert.equal(made.exitCode, 0, made.stderr);
      assert.deepEqual(await readdir(root), [file]);
      const { config, ignored } = await loadConfig(options('prod'));
      assert.deepEqual(
        config.nodes.map(({ name, host, port, database, user }) => [
          name,
          host,
          port,
          database,
          user,
        ]),
        [
          ['n1', 'db1', 6001, 'shop', 'me'],
          ['n2', '10.0.0.2', 5432, 'shop', 'me'],
          ['n3', '::1', 6003, 'shop', 'me'],
        ],
      );
      assert.equal(config.nodes[0]?.sslMode, format === 'json' ? 'prefer' : 'require');
      assert.deepEqual(ignored, []);
    });
  }

  it('cluster init: what is wrong is named, and nothing is written', async () => {
    for (const [args, message] of [
      [['cluster', 'init'], /needs a name/],
      [['cluster', 'init', 'a b'], /needs a name/],
      [['cluster', 'init', 'p', '--hosts', 'db1'], /"db1" is not name=host:port/],
      [['cluster', 'init', 'p', '--hosts', 'n1=a:0'], /"n1=a:0"/],
      [['cluster', 'init', 'p', '--hosts', 'n1=a]\n[x'], /one line/],
      [['cluster', 'init', 'p', '--hosts', 'n1=a;b'], /is not name=host:port/],
      [['cluster', 'init', 'p', '--hosts', 'n1=a,n1=b'], /two nodes called n1/],
      [['cluster', 'init', 'p', '--user', 'a\nhost=x'], /one line/],
    ] as const) {
      const { exitCode, stderr } = await acectl(...args);
      assert.equal(exitCode, 2, stderr);
      assert.match(stderr, message);
    }
    assert.deepEqual(await readdir(root), []);
  });
});
