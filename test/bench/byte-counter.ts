import { connectClient } from '../../src/postgres/client-config.js';
import type { NodeConfig } from '../../src/config/config.js';

export interface ByteCounterOptions {
  readonly node: NodeConfig;
  readonly slot: string;
  readonly publication: string;
  /** Content of the logical message that ends the backlog. */
  readonly endMark: string;
}

/**
 * The least that a consumer in this runtime can do: counts the bytes of a slot's stream until the
 * chunk with the end mark, and looks at nothing else. Returns milliseconds, connecting included.
 */
export async function countBytes(
  options: ByteCounterOptions,
): Promise<{ readonly ms: number; readonly bytes: number }> {
  const { node, slot, publication, endMark } = options;
  const startedAt = performance.now();
  const { client } = await connectClient(node, {
    applicationName: 'bench',
    replication: 'database',
  });
  const socket = client.connection.stream;
  socket.removeAllListeners('data');
  const mark = Buffer.from(endMark);
  let bytes = 0;
  let tail = Buffer.alloc(0);
  try {
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('the connection was closed')));
      socket.on('data', (chunk: Buffer) => {
        bytes += chunk.length;
        // The mark may lie across two chunks.
        const seam = Buffer.concat([tail, chunk.subarray(0, mark.length)]);
        if (chunk.includes(mark) || seam.includes(mark)) resolve();
        tail = Buffer.from(chunk.subarray(Math.max(0, chunk.length - mark.length)));
      });
      socket.resume();
      client.connection.query(
        `START_REPLICATION SLOT "${slot}" LOGICAL 0/0
         (proto_version '1', publication_names '"${publication}"', messages 'true')`,
      );
    });
    return { ms: performance.now() - startedAt, bytes };
  } finally {
    socket.destroy();
  }
}
