import assert from 'node:assert/strict';
import { createServer, type AddressInfo } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { listenForScrapes, type MetricsListener } from '../../src/server/metrics-listener.js';
import { get } from '../support/scrape.js';

const HOST = '127.0.0.1';

describe('the port of metrics', () => {
  let listener: MetricsListener;
  let port: number;

  before(async () => {
    const probe = createServer().listen(0, HOST);
    await new Promise((resolve) => probe.once('listening', resolve));
    ({ port } = probe.address() as AddressInfo);
    await new Promise((resolve) => probe.close(resolve));
    listener = await listenForScrapes(HOST, port);
  });
  after(() => listener.close());

  const ask = async (path: string): Promise<[number, string]> => {
    const { status, text } = await get({ host: HOST, port }, path);
    return [status, text];
  };

  it('says that aced is starting, until there is something to answer', async () => {
    for (const path of ['/health', '/metrics', '/health?verbose']) {
      assert.deepEqual(await ask(path), [503, 'aced is starting\n'], path);
    }
    assert.equal((await ask('/'))[0], 404);
  });

  it('tells a daemon that only another start would mend from one that knows of its trouble', async () => {
    const signs = { status: '1/3 streaming, 2 tables', problems: [] as string[] };
    listener.serve({
      metrics: { contentType: 'text/plain', scrape: () => Promise.reject(new Error('no figures')) },
      health: { check: () => signs },
    });
    assert.deepEqual(await ask('/health'), [200, '1/3 streaming, 2 tables\n']);
    signs.problems.push(
      'the stream of n1 is not tried again',
      'the stream of n2 makes nothing durable',
    );
    const [status, text] = await ask('/health');
    assert.equal(status, 503);
    assert.match(text, /^the stream of n1 is not tried again; the stream of n2 /);
    assert.deepEqual(await ask('/metrics'), [500, 'no figures\n']);
  });
});
