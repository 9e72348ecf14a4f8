import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { AcedError } from '../../src/base/errors.js';
import { definedClusters } from '../../src/config/definition.js';
import { describeConfig, loadConfig, replicationName } from '../../src/config/load.js';
import type { LoadOptions, LoadedConfig } from '../../src/config/load.js';
import { locateDaemon } from '../../src/config/locate.js';
import { optionsHelp } from '../../src/config/options.js';

const THREE_NODES = `# shared
[hub]
dbname=app
user=alice
password=s3cret

[hub.n1]
host=10.0.0.1
port=6001
[hub.n2]
host=10.0.0.2
[hub.n3]
host=::1
port=6003
user=bob

[other.a]
host=x
`;

let root: string;
let cwd: string;
let home: string;

beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'aced-config-'));
  cwd = join(root, 'work');
  home = join(root, 'home');
  mkdirSync(cwd);
  mkdirSync(home);
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, content: string): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, content);
  return path;
}

function options(more: Partial<LoadOptions> = {}): LoadOptions {
  return { cluster: 'hub', env: {}, cwd, home, uid: 1000, ...more };
}

function load(more: Partial<LoadOptions> = {}): Promise<LoadedConfig> {
  return loadConfig(options(more));
}

/** The error's code, message and hint as one text. */
async function failure(more: Partial<LoadOptions> = {}): Promise<string> {
  try {
    await load(more);
  } catch (error) {
    assert.ok(error instanceof AcedError, String(error));
    return `${error.code} ${error.message} | ${error.hint ?? ''}`;
  }
  throw new assert.AssertionError({ message: 'the configuration was accepted' });
}

describe('tables in aced.yaml', () => {
  it('leave columns out; a name with dots or quotes is one', async () => {
    put(
      join(cwd, 'aced.yaml'),
      `tables:
  public.orders: {exclude_columns: [note, "Last Seen"]}
  '"My Schema".t': {exclude_columns: only}
  public.nothing: {exclude_columns: }
  public.typo: {exclude_column: [a]}
`,
    );
    put(join(cwd, 'pg_service.conf'), THREE_NODES);
    const { config, misspelt } = await load();
    assert.deepEqual(config.tables, [
      { name: 'public.orders', excludeColumns: ['note', 'Last Seen'] },
      { name: '"My Schema".t', excludeColumns: ['only'] },
    ]);
    assert.deepEqual(
      misspelt.map(({ key }) => key),
      ['tables.public.typo.exclude_column'],
    );
    put(join(cwd, 'aced.yaml'), 'tables: {public.t: {exclude_columns: [1]}}\n');
    assert.match(await failure(), /line 1, tables\.public\.t\.exclude_columns.*column names/s);
  });
});

describe('service file', () => {
  it('gives shared settings to every node, and a node its own before them', async () => {
    put(join(cwd, 'pg_service.conf'), THREE_NODES);
    const { config, ignored } = await load();
    const common = { database: 'app', password: 's3cret', sslMode: 'prefer' };
    const rest = { connectTimeoutMs: 10_000, tcpUserTimeoutMs: 30_000 };
    assert.deepEqual(config.nodes, [
      { name: 'n1', host: '10.0.0.1', port: 6001, user: 'alice', ...common, ...rest },
      { name: 'n2', host: '10.0.0.2', port: 5432, user: 'alice', ...common, ...rest },
      { name: 'n3', host: '::1', port: 6003, user: 'bob', ...common, ...rest },
    ]);
    assert.deepEqual(ignored, []);
  });

  it('looks in the documented places, in their order', async () => {
    const places = [
      put(join(root, 'ace-service'), '[hub.first]\nhost=a'),
      put(join(root, 'pg-service'), '[hub.second]\nhost=a'),
      put(join(cwd, 'pg_service.conf'), '[hub.third]\nhost=a'),
      put(join(home, '.pg_service.conf'), '[hub.fourth]\nhost=a'),
    ];
    const env = { ACE_PGSERVICEFILE: places[0], PGSERVICEFILE: places[1] };
    for (const [index, name] of ['first', 'second', 'third', 'fourth'].entries()) {
      const { config } = await load({ env });
      assert.deepEqual(
        config.nodes.map((node) => node.name),
        [name],
      );
      rmSync(places[index] ?? '');
    }
    assert.match(await failure({ env }), /UNKNOWN_CLUSTER .*pg-service.*\.pg_service\.conf/);
  });

  const values: readonly [title: string, line: string, key: string, expected: unknown][] = [
    ['keeps # and = in a value', 'password=a#b=c;d', 'password', 'a#b=c;d'],
    ['keeps quotes: nothing is unquoted', `password='it''s "x"'`, 'password', `'it''s "x"'`],
    ['keeps blanks inside, drops those around', '  password =  a b\t ', 'password', 'a b'],
    ['keeps backslashes', 'password=a\\b', 'password', 'a\\b'],
    ['keeps letters beyond ASCII', 'password=pä$$wört€', 'password', 'pä$$wört€'],
    ['treats an empty value as none', 'password=', 'password', undefined],
    ['lets the last of two win', 'port=1\nport=2', 'port', 2],
    ['takes brackets off an IPv6 address', 'host=[fe80::1%eth0]', 'host', 'fe80::1%eth0'],
    ['knows a socket directory', 'host=/var/run/postgresql', 'host', '/var/run/postgresql'],
    ['takes hostaddr where there is no host', 'host=\nhostaddr=127.0.0.9', 'host', '127.0.0.9'],
    ['reads sslmode', 'sslmode=verify-full', 'sslMode', 'verify-full'],
    ['reads sslrootcert', 'sslrootcert=/ca.crt', 'sslRootCert', '/ca.crt'],
    ['reads connect_timeout in seconds', 'connect_timeout=3', 'connectTimeoutMs', 3000],
    ['takes a negative connect_timeout for no limit', 'connect_timeout=-1', 'connectTimeoutMs', 0],
  ];
  for (const [title, line, key, expected] of values) {
    it(title, async () => {
      put(join(cwd, 'pg_service.conf'), `[hub.n1]\nhost=h\n${line}\n`);
      const { config } = await load();
      const [node] = config.nodes;
      assert.ok(node !== undefined);
      assert.equal(new Map<string, unknown>(Object.entries(node)).get(key), expected);
    });
  }

  it('reads CRLF, a byte order mark, comments and blank lines', async () => {
    const content = '\uFEFF# x\r\n\r\n  # y\r\n[hub.n1]\r\nhost=h\r\nport=7\r\n';
    put(join(cwd, 'pg_service.conf'), content);
    const { config } = await load();
    assert.deepEqual([config.nodes[0]?.host, config.nodes[0]?.port], ['h', 7]);
  });

  it('names what it ignores', async () => {
    const path = put(
      join(cwd, 'pg_service.conf'),
      '[hub]\noptions=-c x=1\n[hub.n1]\nhost=h\nhostaddr=1.2.3.4\ntarget_session_attrs=any\n',
    );
    const { ignored } = await load();
    assert.deepEqual(ignored, [
      { source: path, key: 'options' },
      { source: path, key: 'hostaddr' },
      { source: path, key: 'target_session_attrs' },
    ]);
  });

  it('falls back on the environment where libpq would, and not before the file', async () => {
    put(join(cwd, 'pg_service.conf'), '[hub.n1]\nhost=h\n[hub.n2]\nhost=i\nuser=u\nport=9\n');
    const env = {
      PGHOST: 'never',
      PGPORT: '7777',
      PGUSER: 'envuser',
      PGPASSWORD: 'envpass',
      PGDATABASE: 'envdb',
      PGSSLMODE: 'require',
      PGCONNECT_TIMEOUT: '4',
    };
    const { config } = await load({ env });
    const common = { database: 'envdb', password: 'envpass', sslMode: 'require' };
    const rest = { connectTimeoutMs: 4000, tcpUserTimeoutMs: 30_000 };
    assert.deepEqual(config.nodes, [
      { name: 'n1', host: 'h', port: 7777, user: 'envuser', ...common, ...rest },
      { name: 'n2', host: 'i', port: 9, user: 'u', ...common, ...rest },
    ]);
  });

  it('uses the user for a database that is not named, as libpq does', async () => {
    put(join(cwd, 'pg_service.conf'), '[hub.n1]\nhost=h\nuser=carol\n');
    assert.equal((await load()).config.nodes[0]?.database, 'carol');
    assert.equal((await load({ database: 'x' })).config.nodes[0]?.database, 'x');
  });

  it("uses libpq's default certificate files where they exist", async () => {
    put(join(cwd, 'pg_service.conf'), '[hub.n1]\nhost=h\n');
    const ca = put(join(home, '.postgresql/root.crt'), '');
    put(join(home, '.postgresql/postgresql.crt'), '');
    const [node] = (await load()).config.nodes;
    assert.equal(node?.sslRootCert, ca);
    assert.equal(node.sslCert, undefined, 'a certificate without its key is of no use');
  });

  it('names the files where a password may be, unless there is one', async () => {
    put(join(cwd, 'pg_service.conf'), '[hub.n1]\nhost=h\n[hub.n2]\nhost=i\npassword=x\n');
    const own = { path: join(home, '.pgpass'), isCredential: false };
    const given = { path: '/run/credentials/pgpass', isCredential: true };
    const cases: [NodeJS.ProcessEnv, object[]][] = [
      [{}, [own]],
      [{ PGPASSFILE: '' }, [own]],
      [{ CREDENTIALS_DIRECTORY: '/run/credentials' }, [given, own]],
      [
        { PGPASSFILE: 'mine', CREDENTIALS_DIRECTORY: '/run/credentials' },
        [{ path: join(cwd, 'mine'), isCredential: false }],
      ],
    ];
    for (const [env, files] of cases) {
      const [n1, n2] = (await load({ env })).config.nodes;
      assert.deepEqual(n1?.passwordFiles, files);
      assert.equal(n2?.passwordFiles, undefined);
    }
  });

  const faults: readonly [title: string, content: string, expected: RegExp][] = [
    ['a port that is no number', 'host=h\nport=x', /BAD_CONFIG .*line 3, port: "x".*1 to 65535/],
    ['a fractional port', 'host=h\nport=1.5', /line 3, port: "1.5"/],
    ['a comment behind a value', 'host=h\nport=5432 # main', /line 3, port/],
    ['port 0', 'port=0', /line 2, port: "0"/],
    ['port 65536', 'port=65536', /line 2, port/],
    ['an unknown sslmode', 'sslmode=on', /sslmode: "on".*disable, allow/],
    ['several hosts', 'host=a,b', /host: "a,b".*one host/],
    ['a node twice', 'host=a\n[hub.n1]\nhost=b', /line 3: section \[hub\.n1\] is there twice/],
    ['a line without =', 'host=a\nhunter2', /line 3: a setting is key=value/],
    ['an unclosed section', 'host=a\n[hub.n2', /line 3: a section is \[name\]/],
    [
      'two nodes that are one database',
      'host=a\nuser=u\n[hub.n2]\nhost=a\nuser=u',
      /n1 and n2 are the same database, u at a port 5432/,
    ],
  ];
  for (const [title, content, expected] of faults) {
    it(`refuses ${title}`, async () => {
      put(join(cwd, 'pg_service.conf'), `[hub.n1]\n${content}\n`);
      const message = await failure();
      assert.match(message, expected);
      assert.doesNotMatch(message, /hunter2/, 'a malformed line may be a password');
    });
  }

  it("does not mind malformed sections that are somebody else's", async () => {
    put(join(cwd, 'pg_service.conf'), '[x]\nldap://y\n[x]\n[hub.n1]\nhost=h\n');
    assert.equal((await load()).config.nodes.length, 1);
  });

  it('lists the clusters that there are', async () => {
    put(join(cwd, 'pg_service.conf'), THREE_NODES);
    const message = await failure({ cluster: 'nope' });
    assert.match(message, /^UNKNOWN_CLUSTER no cluster "nope" in .*pg_service\.conf, nope\.json/);
    assert.match(message, /Defined there: hub, other\.$/);
  });

  it('lists those of pgEdge files too, and no other JSON', async () => {
    put(join(cwd, 'pg_service.conf'), THREE_NODES);
    put(join(cwd, 'lone.json'), '{"pgedge": {}, "node_groups": [{"name": "n1"}]}');
    put(join(cwd, 'hub.json'), '{"node_groups": []}');
    put(join(cwd, 'package.json'), '{"name": "node_groups"}');
    put(join(cwd, 'a cluster.json'), '{"node_groups": []}');
    put(join(cwd, 'half.json'), '{"node_groups": [');
    put(join(cwd, 'big.json'), `{"node_groups": [], "x": "${'x'.repeat(1024 ** 2)}"}`);
    mkdirSync(join(cwd, 'folder.json'));
    const known = ['hub', 'other', 'lone'];
    assert.deepEqual(definedClusters(options()), known);
    assert.match(await failure({ cluster: 'nope' }), /Defined there: hub, other, lone\.$/);
    rmSync(join(cwd, 'pg_service.conf'));
    assert.deepEqual(definedClusters(options()), ['hub', 'lone']);
  });

  it('refuses names that would leave their directory', async () => {
    for (const cluster of ['../x', 'a/b', '.', '', 'a b', 'x]']) {
      assert.match(await failure({ cluster }), /BAD_CONFIG|UNKNOWN_CLUSTER no cluster is named/);
    }
  });
});

describe('pgEdge <cluster>.json', () => {
  const group = (name: string, more: object = {}): object => ({
    name,
    is_active: 'on',
    public_ip: `${name}.example`,
    private_ip: '10.0.0.1',
    port: '6432',
    ...more,
  });
  const definition = (groups: readonly unknown[], more: object = {}): string =>
    JSON.stringify({
      json_version: '1.0',
      cluster_name: 'hub',
      pgedge: {
        pg_version: '17',
        databases: [
          { db_name: 'lcdb', db_user: 'lcusr', db_password: 'pw' },
          { db_name: 'second', db_user: 'u2' },
        ],
      },
      node_groups: groups,
      ...more,
    });

  it('reads nodes, and leaves out those that are not active', async () => {
    const groups = [
      group('n1'),
      group('n2', { is_active: 'no' }),
      group('n3', { public_ip: '', port: 5433 }),
      group('n4', { is_active: false }),
      group('n5', { is_active: 'off' }),
    ];
    const path = put(join(cwd, 'hub.json'), definition(groups));
    const { config, ignored } = await load();
    const common = { database: 'lcdb', user: 'lcusr', password: 'pw', sslMode: 'prefer' };
    const rest = { connectTimeoutMs: 10_000, tcpUserTimeoutMs: 30_000 };
    assert.deepEqual(config.nodes, [
      { name: 'n1', host: 'n1.example', port: 6432, ...common, ...rest },
      { name: 'n3', host: '10.0.0.1', port: 5433, ...common, ...rest },
    ]);
    assert.deepEqual(ignored, [
      { source: path, key: 'json_version' },
      { source: path, key: 'pgedge.pg_version' },
    ]);
  });

  it('takes the credentials of the database that is asked for', async () => {
    put(join(cwd, 'hub.json'), definition([group('n1')]));
    const [node] = (await load({ database: 'second' })).config.nodes;
    assert.deepEqual([node?.database, node?.user, node?.password], ['second', 'u2', undefined]);
    assert.match(await failure({ database: 'third' }), /no database "third".*lcdb, second/);
  });

  it('comes after a service file that has the cluster', async () => {
    put(join(cwd, 'hub.json'), definition([group('json')]));
    put(join(cwd, 'pg_service.conf'), '[elsewhere.n1]\nhost=h\n');
    assert.equal((await load()).config.nodes[0]?.name, 'json');
    put(join(cwd, 'pg_service.conf'), '[hub.service]\nhost=h\n');
    assert.equal((await load()).config.nodes[0]?.name, 'service');
  });

  const faults: readonly [title: string, content: string, expected: RegExp][] = [
    ['broken JSON, without quoting it', '{"db_password": "hunter2"', /BAD_CONFIG .*not valid JSON/],
    ['a list', '[]', /the file must be an object/],
    ['no nodes', definition([]), /no active node/],
    ['an odd is_active', definition([group('n1', { is_active: 'maybe' })]), /is_active: "maybe"/],
    ['a node without a name', definition([{ port: 1 }]), /node_groups\[0\]: .*no name/],
    ['a bad port', definition([group('n1', { port: 'x' })]), /node_groups\[0\]\.port, port: "x"/],
    ['a node twice', definition([group('n1'), group('n1')]), /node n1 is there twice/],
    ['a name with a slash', definition([group('a/b')]), /node name: "a\/b"/],
  ];
  for (const [title, content, expected] of faults) {
    it(`refuses ${title}`, async () => {
      put(join(cwd, 'hub.json'), content);
      const message = await failure();
      assert.match(message, expected);
      assert.doesNotMatch(message, /hunter2/);
    });
  }
});

describe('settings', () => {
  beforeEach(() => {
    put(join(cwd, 'pg_service.conf'), THREE_NODES);
  });

  it('has defaults for everything', async () => {
    const { config } = await load();
    assert.deepEqual(
      { ...config, nodes: [] },
      {
        cluster: 'hub',
        nodes: [],
        stateDir: join(home, '.local/state/aced/hub'),
        socketPath: join(home, '.local/state/aced/hub/aced.sock'),
        maxCommands: 32,
        logLevel: 'info',
        publicationName: 'aced_hub',
        slotName: 'aced_hub',
        nodeSchema: 'aced',
        tree: {
          blockRows: 200,
          maxBlocks: 200_000,
          maxCpuRatio: 0.5,
          refreshQuietMs: 1000,
          refreshBudget: 0.25,
          rowDigestBytes: 32 * 1024 ** 2,
          catalogWatchMs: 1_000,
        },
        scrub: { budget: 0.01, intervalMs: 86_400_000, maxActiveBackends: 8 },
        diff: {
          maxDiffRows: 1_000_000,
          compareUnitSize: 10_000,
          concurrencyFactor: 0.5,
          settleTimeoutMs: 30_000,
        },
        stream: {
          flushIntervalMs: 500,
          connectTimeoutMs: 10_000,
          tcpUserTimeoutMs: 30_000,
          fenceTimeoutMs: 60_000,
          maxSlotWalBytes: 64 * 1024 ** 3,
          failoverSlot: 'auto',
        },
        drift: {
          isEnabled: true,
          openRowsBytes: 64 * 1024 ** 2,
          eventsFile: null,
          eventsHaveKeys: false,
        },
        hooks: { webhook: null, authorization: null, command: null },
        standby: null,
        metrics: { port: null, host: '127.0.0.1', perTable: 'auto' },
        api: {
          port: null,
          host: '127.0.0.1',
          certFile: null,
          keyFile: null,
          clientCaFile: null,
          clientCrlFile: null,
          allowedNames: [],
        },
        schedule: { jobs: [], left: [], reportDir: join(home, '.local/state/aced/hub/reports') },
        tables: [],
        canary: { intervalMs: 0, timeoutMs: 30_000 },
        track: {
          include: [],
          exclude: [],
          publications: [],
          replicationSets: [],
          budget: 0.5,
          intervalMs: 5000,
        },
      },
    );
  });

  it("takes the files of ACE's server over, and opens no port for them", async () => {
    put(
      join(cwd, 'ace.yaml'),
      `server: { listen_address: 0.0.0.0, listen_port: 5000, tls_cert_file: s.crt, tls_key_file: /k/s.key, allowed_common_names: ['Doe, J', ci] }
cert_auth: { ca_cert_file: ca.crt }
`,
    );
    const { config, ignored } = await load();
    assert.deepEqual(config.api, {
      port: null,
      host: '127.0.0.1',
      certFile: join(cwd, 's.crt'),
      keyFile: '/k/s.key',
      clientCaFile: join(cwd, 'ca.crt'),
      clientCrlFile: null,
      allowedNames: ['Doe, J', 'ci'],
    });
    assert.deepEqual(
      ignored.map(({ key }) => key),
      ['server.listen_address', 'server.listen_port'],
    );
    const env = { ACED_API_PORT: '5001', ACED_API_ALLOWED_NAMES: 'a, b' };
    const { config: other } = await load({ env });
    assert.deepEqual([other.api.port, other.api.allowedNames], [5001, ['a', 'b']]);
  });

  it('lets flags win over the environment, that over aced.yaml, that over ace.yaml', async () => {
    put(join(cwd, 'ace.yaml'), 'default_cluster: other\ntable_diff: {compare_unit_size: 5}\n');
    const read = async (more: Partial<LoadOptions> = {}): Promise<unknown[]> => {
      const { config } = await load({ cluster: undefined, ...more });
      return [config.cluster, config.logLevel, config.diff.compareUnitSize];
    };
    assert.deepEqual(await read(), ['other', 'info', 5]);
    put(
      join(cwd, 'aced.yaml'),
      'default_cluster: hub\nlog_level: warn\ndiff:\n  compare_unit_size: 6\n',
    );
    assert.deepEqual(await read(), ['hub', 'warn', 6]);
    const env = {
      ACED_CLUSTER: 'other',
      ACED_LOG_LEVEL: 'error',
      ACED_DIFF_COMPARE_UNIT_SIZE: '7',
    };
    assert.deepEqual(await read({ env }), ['other', 'error', 7]);
    const overrides = { logLevel: 'debug' };
    assert.deepEqual(await read({ env, cluster: 'hub', overrides }), ['hub', 'debug', 7]);
  });

  it('finds aced.yaml in its places', async () => {
    const named = put(join(root, 'named.yaml'), 'log_level: trace');
    put(join(home, '.config/aced/aced.yaml'), 'log_level: debug');
    const level = async (env: NodeJS.ProcessEnv = {}): Promise<string> =>
      (await load({ env })).config.logLevel;
    assert.equal(await level(), 'debug');
    put(join(cwd, 'aced.yaml'), 'log_level: warn');
    assert.equal(await level(), 'warn');
    assert.equal(await level({ ACED_CONFIG: named }), 'trace');
    assert.equal(await level({ ACED_CONFIG: '../named.yaml' }), 'trace');
    const missing = await failure({ env: { ACED_CONFIG: '/nowhere/aced.yaml' } });
    assert.match(missing, /BAD_CONFIG .*ACED_CONFIG.*\/nowhere\/aced\.yaml/);
  });

  it("reads what ACE's file has for us, and names the rest", async () => {
    const ace = put(
      join(root, 'my-ace.yaml'),
      `default_cluster: ''
postgres:
  statement_timeout: 0
  connection_timeout: 7
table_diff: { concurrency_factor: 2, max_diff_rows: 0 }
mtree:
  schema: spock
  cdc: { slot_name: ace_mtree_slot, cdc_processing_timeout: 30 }
  diff:
    block_size: 5000
schedule_jobs: []
`,
    );
    const { config, ignored } = await load({ env: { ACE_CONFIG: ace } });
    assert.equal(config.nodes[0]?.connectTimeoutMs, 7000);
    assert.equal(config.diff.concurrencyFactor, 2);
    assert.equal(config.diff.maxDiffRows, Number.MAX_SAFE_INTEGER);
    assert.equal(config.stream.fenceTimeoutMs, 30_000);
    assert.equal(config.tree.blockRows, 5000);
    assert.deepEqual(
      ignored.map(({ source, key }) => [source, key]),
      [
        [ace, 'postgres.statement_timeout'],
        [ace, 'mtree.schema'],
        [ace, 'mtree.cdc.slot_name'],
      ],
    );
  });

  const faults: readonly [title: string, yaml: string, expected: RegExp][] = [
    ['a wrong type', 'tree:\n  block_rows: many', /aced\.yaml, line 2, tree\.block_rows: "many"/],
    ['a value out of range', 'tree: {max_cpu_ratio: 1.5}', /1\.5 .*from 0 to 1/],
    ['an unknown level', 'log_level: loud', /log_level: "loud".*fatal, error/],
    ['a size without sense', 'stream: {max_slot_wal_bytes: 10 potatoes}', /with a unit/],
    ['broken YAML', 'a: [1', /aced\.yaml, line \d+: /],
    ['a list', '- a\n- b', /not a mapping/],
    ['a section where a value belongs', 'log_level: [info]', /log_level: \["info"\]/],
  ];
  for (const [title, yaml, expected] of faults) {
    it(`refuses ${title}`, async () => {
      put(join(cwd, 'aced.yaml'), yaml);
      const message = await failure();
      assert.match(message, /^BAD_CONFIG/);
      assert.match(message, expected);
    });
  }

  it('accepts an empty file, comments only, and names unknown keys', async () => {
    const path = put(join(cwd, 'aced.yaml'), '');
    assert.deepEqual((await load()).ignored, []);
    put(path, '# nothing\n');
    assert.deepEqual((await load()).ignored, []);
    put(path, 'tree:\n  blok_rows: 5\nstream: {max_slot_wal_bytes: 2GB}\n');
    const { config, ignored } = await load();
    assert.deepEqual(ignored, [{ source: path, key: 'tree.blok_rows' }]);
    assert.equal(config.stream.maxSlotWalBytes, 2 * 1024 ** 3);
  });

  it('is frozen throughout', async () => {
    const { config } = await load();
    for (const part of [config, config.nodes, config.nodes[0], config.tree, config.stream]) {
      assert.ok(Object.isFrozen(part));
    }
  });

  it('describes itself without secrets', async () => {
    const { config } = await load();
    const text = JSON.stringify(describeConfig(config));
    assert.doesNotMatch(text, /s3cret/);
    assert.match(text, /"password":"\(set\)"/);
    assert.match(text, /"host":"10\.0\.0\.2"/);
  });

  it('explains every option', () => {
    assert.match(optionsHelp(), /tree\.block_rows \(ACED_TREE_BLOCK_ROWS\): .*default 200/);
  });

  it('makes slot names that PostgreSQL accepts', () => {
    assert.equal(replicationName('My-Cluster.ü'), 'aced_my_cluster__');
    assert.equal(replicationName('x'.repeat(100)).length, 63);
  });
});

describe('paths', () => {
  beforeEach(() => {
    put(join(cwd, 'pg_service.conf'), THREE_NODES);
  });

  const cases: readonly [
    title: string,
    more: Partial<LoadOptions>,
    state: string,
    socket: string,
  ][] = [
    ['root', { uid: 0 }, '/var/lib/aced/hub', '/run/aced/hub.sock'],
    [
      'a login session',
      { env: { XDG_RUNTIME_DIR: '/run/user/1000', XDG_STATE_HOME: '/s' } },
      '/s/aced/hub',
      '/run/user/1000/aced-hub.sock',
    ],
    [
      'systemd, shared directories',
      { env: { STATE_DIRECTORY: '/var/lib/aced:/x', RUNTIME_DIRECTORY: '/run/aced' } },
      '/var/lib/aced/hub',
      '/run/aced/hub.sock',
    ],
    [
      "systemd, an instance's directory",
      { env: { STATE_DIRECTORY: '/var/lib/aced/hub' } },
      '/var/lib/aced/hub',
      '/var/lib/aced/hub/aced.sock',
    ],
    [
      'the environment before systemd',
      { env: { STATE_DIRECTORY: '/no', ACED_STATE_DIR: '/st', ACED_SOCKET: '/so' } },
      '/st',
      '/so',
    ],
    [
      'flags before the environment',
      { env: { ACED_SOCKET: '/no' }, overrides: { socket: '/so', stateDir: '/st' } },
      '/st',
      '/so',
    ],
  ];
  for (const [title, more, stateDir, socketPath] of cases) {
    it(`for ${title}, the same for daemon and command`, async () => {
      const { config } = await load(more);
      assert.deepEqual([config.stateDir, config.socketPath], [stateDir, socketPath]);
      const location = await locateDaemon(options(more));
      assert.equal(location.stateDir, stateDir);
      assert.equal(location.socketPaths[0], socketPath);
    });
  }

  it('takes relative paths from where they are written', async () => {
    const { config } = await load({ overrides: { stateDir: 'flag' } });
    assert.equal(config.stateDir, join(cwd, 'flag'));
    put(join(home, '.config/aced/aced.yaml'), 'state_dir: ./here\nsocket: ~/s.sock\n');
    const second = await load();
    assert.equal(second.config.stateDir, join(home, '.config/aced/here'));
    assert.equal(second.config.socketPath, join(home, 's.sock'));
    const location = await locateDaemon(options());
    assert.deepEqual(location.socketPaths, [join(home, 's.sock')]);
  });

  it('knows where a daemon of the system or of another session listens', async () => {
    const { socketPaths } = await locateDaemon(options());
    const own = join(home, '.local/state/aced/hub/aced.sock');
    assert.deepEqual(socketPaths, [own, '/run/user/1000/aced-hub.sock', '/run/aced/hub.sock']);
  });

  it('finds the cluster in either YAML file', async () => {
    const find = async (): Promise<string> =>
      (await locateDaemon(options({ cluster: undefined }))).cluster;
    await assert.rejects(find(), { code: 'UNKNOWN_CLUSTER' });
    put(join(cwd, 'ace.yaml'), 'default_cluster: fromace\n');
    assert.equal(await find(), 'fromace');
    put(join(cwd, 'aced.yaml'), 'default_cluster: fromaced\n');
    assert.equal(await find(), 'fromaced');
  });

  it('measures the socket path in bytes', async () => {
    const fits = `/${'x'.repeat(106)}`;
    assert.equal((await load({ overrides: { socket: fits } })).config.socketPath, fits);
    const long = await failure({ overrides: { socket: `${fits}y` } });
    assert.match(long, /BAD_CONFIG .* has 108 bytes; a unix socket allows 107.*ACED_SOCKET/);
    assert.match(await failure({ overrides: { socket: `/${'ä'.repeat(54)}` } }), /109 bytes/);
  });
});
