import assert from 'node:assert/strict';
import { mkdtemp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { startProgram, type Ended } from '../cli/program.js';
import { startMesh, type Mesh } from '../support/mesh.js';
import { waitFor } from '../support/wait.js';

/** Folder `a` and folder `b` each define a cluster `x`: n1 and n2, and other servers by those names. */
describe('one name, two definitions', () => {
  let mesh: Mesh;
  let root: string;
  let stop: () => Promise<void>;

  before(async () => {
    mesh = await startMesh({ nodes: 4, tables: 'CREATE TABLE t (id int PRIMARY KEY, v text)' });
    root = await mkdtemp(join(tmpdir(), 'aced-two-'));
    for (const folder of ['a', 'b', 'none']) await mkdir(join(root, folder));
    await define('a', ['n1', 'n2']);
    await define('b', ['n3', 'n4']);
    const { child, ended } = run('aced', 'a', ['--cluster', 'x']);
    let log = '';
    child.stdout?.on('data', (text: string) => (log += text));
    await waitFor(() => log.includes('"event":"ready"'), { what: 'aced to be ready' });
    stop = async () => {
      child.kill('SIGTERM');
      await ended;
    };
    const made = await acectl('a', 'mtree', 'init', 'x');
    assert.equal(made.exitCode, 0, made.stderr);
  });

  after(async () => {
    await mesh.stop();
    await rm(root, { recursive: true });
  });

  async function define(folder: string, servers: readonly string[], host = '127.0.0.1') {
    const nodes = mesh.nodeConfigs();
    const sections = servers.map((server, i) => {
      const node = nodes.find(({ name }) => name === server);
      assert.ok(node !== undefined);
      return `[x.n${i + 1}]\nhost=${host}\nport=${node.port}\ndbname=${node.database}\nuser=${node.user}\n`;
    });
    await writeFile(join(root, folder, 'pg_service.conf'), `[x]\n${sections.join('')}`);
  }

  function portOf(server: string): number {
    return mesh.nodeConfigs().find(({ name }) => name === server)?.port ?? 0;
  }

  function run(program: 'aced' | 'acectl', folder: string, args: readonly string[], more = {}) {
    return startProgram(program, args, {
      cwd: join(root, folder),
      env: {
        HOME: root,
        ACED_STATE_DIR: join(root, 'state'),
        ACED_SOCKET: join(root, 'aced.sock'),
        ...more,
      },
    });
  }

  async function acectl(folder: string, ...args: string[]): Promise<Ended> {
    return run('acectl', folder, args).ended;
  }

  it('refuses each command from the other one, and names both', async () => {
    await writeFile(
      join(root, 'b', 'd.json'),
      '{"diffs":{},"summary":{"schema":"public","table":"t"}}',
    );
    for (const args of [
      ['status', 'x'],
      ['table-diff', 'x', 't'],
      ['mtree', 'build', 'x', 't'],
      ['table-repair', 'x', 't', '-f', 'd.json', '-r', 'n1'],
      ['mtree', 'teardown', 'x'],
    ]) {
      const { exitCode, stdout, stderr } = await acectl('b', ...args);
      assert.deepEqual([exitCode, stdout], [2, ''], args.join(' '));
      assert.match(stderr, new RegExp(`serves n1 = \\w+ at 127.0.0.1:${portOf('n1')}, n2 = `));
      assert.match(stderr, new RegExp(`definition here is n1 = \\w+ at 127.0.0.1:${portOf('n3')}`));
      assert.match(stderr, /\nHINT .*restart aced/);
    }
  });

  it('takes the same servers in another order, or no definition at all, for its own', async () => {
    const text = await readFile(join(root, 'a', 'pg_service.conf'), 'utf8');
    const [head = '', one = '', two = ''] = text.split(/(?=\[x\.n)/);
    await writeFile(join(root, 'b', 'pg_service.conf'), `${head}${two}${one}`);
    for (const folder of ['a', 'b', 'none']) {
      const { exitCode, stderr } = await acectl(folder, 'table-diff', 'x', 't');
      assert.equal(exitCode, 0, `${folder}: ${stderr}`);
    }
    await define('b', ['n1', 'n2'], 'localhost');
    const spelled = await acectl('b', 'status', 'x');
    assert.equal(spelled.exitCode, 2, 'a name is not an address');
    assert.match(spelled.stderr, /must be spelled alike/);
  });

  it('says in results and files which servers they are of', async () => {
    await mesh.driftSql('n2', "INSERT INTO t VALUES (1, 'x')");
    const shown = await acectl('a', 'status', 'x');
    assert.match(shown.stdout, new RegExp(`n2 .* at 127.0.0.1:${portOf('n2')}`));
    const answer = await acectl('a', 'table-diff', 'x', 't', '--json');
    const { servers, files } = JSON.parse(answer.stdout) as {
      servers: Record<string, { host: string; port: number }>;
      files: string[];
    };
    assert.deepEqual([servers['n1']?.port, servers['n2']?.port], [portOf('n1'), portOf('n2')]);
    assert.equal(files.length, 1);
    for (const file of files) {
      const { summary } = JSON.parse(await readFile(join(root, 'a', file), 'utf8')) as {
        summary: { aced: { servers: unknown } };
      };
      assert.deepEqual(summary.aced.servers, servers);
    }
  });

  it('does not use or lose the state of other servers without a daemon', async () => {
    await stop();
    await define('b', ['n3', 'n4']);
    const other = await acectl('b', 'mtree', 'build', 'x', 't');
    assert.equal(other.exitCode, 2);
    assert.match(
      other.stderr,
      /ERROR the state directory belongs to n1 = .*definition here is n1 = /,
    );
    const slots = await mesh.query(
      'n3',
      "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'aced_x'",
    );
    assert.deepEqual(slots, []);
    const own = await acectl('a', 'mtree', 'build', 'x', 't');
    assert.equal(own.exitCode, 0, own.stderr);
    assert.ok((await readdir(join(root, 'state'))).includes('aced.sqlite'));
  });
});
