import assert from 'node:assert/strict';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import { PacedSocket } from '../../src/stream/paced-socket.js';
import { waitFor } from '../support/wait.js';

describe('PacedSocket', () => {
  let server: Server;
  let peer: Socket;
  let socket: PacedSocket;

  before(async () => {
    server = createServer();
    const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    socket = new PacedSocket();
    socket.connect((server.address() as AddressInfo).port, '127.0.0.1');
    peer = await connected;
    peer.setNoDelay(true);
  });

  after(() => {
    socket.destroy();
    server.close();
  });

  it('emits data, each in a buffer of its own, until somebody receives', async () => {
    const chunks: Buffer[] = [];
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    peer.write('first');
    await waitFor(() => chunks.length === 1, { what: 'the first chunk' });
    peer.write('other');
    await waitFor(() => chunks.length === 2, { what: 'the second chunk' });
    assert.deepEqual(chunks.map(String), ['first', 'other']);
  });

  it('gathers small packets that come close together, and loses none', async () => {
    const received: string[] = [];
    let reads = 0;
    socket.on('data', () => assert.fail('data goes to the receiver now'));
    socket.receive((bytes) => {
      reads += 1;
      received.push(bytes.toString());
    });
    const sent = Array.from({ length: 3000 }, (_, i) => `message ${i};`);
    const startedMs = performance.now();
    for (const text of sent) {
      peer.write(text);
      await new Promise((resolve) => setImmediate(resolve));
    }
    const all = sent.join('');
    await waitFor(() => received.join('').length >= all.length, { what: 'all packets' });
    assert.equal(received.join(''), all);
    const elapsedMs = performance.now() - startedMs;
    assert.ok(reads <= elapsedMs + 10, `${reads} reads in ${elapsedMs} ms`);
    assert.ok(reads < sent.length / 2);
  });

  it('reads nothing while its owner has paused it, whatever the pace', async () => {
    let bytesRead = 0;
    socket.receive((bytes) => {
      bytesRead += bytes.length;
      if (bytesRead >= 10) socket.pause();
    });
    for (let i = 0; i < 50; i++) {
      peer.write('0123456789');
      await new Promise((resolve) => setImmediate(resolve));
    }
    await waitFor(() => bytesRead >= 10, { what: 'the first read' });
    const before_ = bytesRead;
    const untilMs = performance.now() + 20;
    peer.write('more');
    await waitFor(() => performance.now() > untilMs, { what: '20 ms to pass' });
    assert.equal(bytesRead, before_);
    socket.receive((bytes) => {
      bytesRead += bytes.length;
    });
    socket.resume();
    await waitFor(() => bytesRead === 504, { what: 'the rest' });
  });

  it('tells of the end', async () => {
    const closed = new Promise<boolean>((resolve) => socket.once('close', resolve));
    peer.end('bye');
    assert.equal(await closed, false);
  });
});
