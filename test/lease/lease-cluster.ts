import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startMesh, type Mesh } from '../support/mesh.js';
import { startServer, type TestServer } from '../support/postgres.js';
import { Proxy } from '../stream/proxy.js';
import { Aced } from './aced-pair.js';

/** Two nodes with two equal tables, two aced, and the database in which those agree. */
export interface LeaseCluster {
  readonly mesh: Mesh;
  readonly leases: TestServer;
  readonly root: string;
  /** Its way to the lease's database can be cut. */
  readonly a: Aced;
  readonly way: Proxy;
  readonly b: Aced;
  readonly drift: (table: string, id: number) => Promise<void>;
  readonly mend: (table: string, id: number) => Promise<void>;
  stop(): Promise<void>;
}

const ROWS = 2000;

export async function startLeaseCluster(): Promise<LeaseCluster> {
  const table = (name: string): string => `CREATE TABLE ${name} (id int PRIMARY KEY, v text)`;
  const [mesh, leases] = await Promise.all([
    startMesh({ nodes: 2, tables: `${table('t')}; ${table('u')}` }),
    startServer(),
  ]);
  for (const name of ['t', 'u']) {
    await mesh.query(
      'n1',
      `INSERT INTO ${name} SELECT i, 'v' || i FROM generate_series(1, ${ROWS}) i`,
    );
  }
  await mesh.waitForReplication();
  const root = await mkdtemp(join(tmpdir(), 'aced-lease-'));
  const way = await Proxy.start({ host: '127.0.0.1', port: leases.port });
  const [a, b] = [new Aced({ root, name: 'a' }), new Aced({ root, name: 'b' })];
  const user = leases.superuser;
  await a.configure(mesh, { host: '127.0.0.1', port: way.port, user });
  await b.configure(mesh, { host: '127.0.0.1', port: leases.port, user });
  const write = (name: string, id: number, value: string): Promise<void> =>
    mesh.driftSql('n2', `UPDATE ${name} SET v = '${value}' WHERE id = ${id}`);
  return {
    ...{ mesh, leases, root, a, way, b },
    drift: (name, id) => write(name, id, 'drifted'),
    mend: (name, id) => write(name, id, `v${id}`),
    stop: async () => {
      for (const one of [a, b]) {
        one.signal('SIGCONT');
        await one.kill();
      }
      await way.stop();
      await mesh.stop();
      await leases.stop();
      await rm(root, { recursive: true });
    },
  };
}
