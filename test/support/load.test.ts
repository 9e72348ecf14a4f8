import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { CUSTOMERS_DDL, customerRows } from './customers.js';
import { CUSTOMERS_LOAD, isLoadKey, startLoad } from './load.js';
import { startMesh, type Mesh } from './mesh.js';
import { waitFor } from './wait.js';

const ROWS = 1_000;
const CONTENT = 'SELECT count(*), sum(hashtext(c::text)) FROM customers c';

describe('live load', () => {
  let mesh: Mesh;
  before(async () => {
    mesh = await startMesh({ nodes: 2, tables: CUSTOMERS_DDL });
    await mesh.query('n1', `INSERT INTO customers ${customerRows(1, ROWS)}`);
    await mesh.waitForReplication();
  });
  after(() => mesh.stop());

  it('writes on all nodes and converges', async () => {
    const untouched = 'SELECT sum(hashtext(c::text)) FROM customers c WHERE id % 3 = 2';
    const [before] = await Promise.all([mesh.query('n1', untouched), mesh.query('n2', CONTENT)]);
    const load = startLoad({
      mesh,
      statements: CUSTOMERS_LOAD,
      existingRows: ROWS,
      ratePerSecond: 1_000,
    });
    await waitFor(() => load.writes >= 300, { what: '300 writes' });
    const { writes } = await load.stop();
    assert.ok(writes >= 300);
    await mesh.waitForReplication();
    const contents = await Promise.all(mesh.names.map((name) => mesh.query(name, CONTENT)));
    assert.deepEqual(contents[0], contents[1]);
    assert.deepEqual(await mesh.query('n1', untouched), before);
    assert.deepEqual(
      [0, 1, 2, 3].map((key) => isLoadKey(mesh, key)),
      [true, true, false, true],
    );
  });

  it('reports a statement that fails', async () => {
    const load = startLoad({
      mesh,
      statements: { update: 'SELECT 1 / ($1::bigint - $1::bigint)' },
      existingRows: ROWS,
      ratePerSecond: 100,
    });
    await waitFor(() => load.hasFailed, { what: 'the load to fail' });
    await assert.rejects(load.stop(), { code: '22012' });
  });
});
