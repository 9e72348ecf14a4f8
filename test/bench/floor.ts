import { formatLsn, type Lsn } from '../../src/base/lsn.js';
import type { NodeConfig } from '../../src/config/config.js';
import { connectClient } from '../../src/postgres/client-config.js';
import { statusUpdate } from '../../src/stream/frames.js';
import { startReplicationSql } from '../../src/stream/replication-stream.js';

export interface CountOptions {
  readonly node: NodeConfig;
  readonly slot: string;
  readonly publication: string;
  readonly startLsn: Lsn;
  /** Counts until a commit that ends here or later. */
  readonly untilLsn: Lsn;
}

export interface Count {
  /** Of CopyData contents. */
  readonly bytes: number;
  /** XLogData messages. */
  readonly messages: number;
  readonly seconds: number;
  /** User and system time of this process. */
  readonly cpuSeconds: number;
}

const XLOG_DATA = 0x77;
const COMMIT = 0x43;
/** In an XLogData with a Commit: after its header, type, flags and commit position. */
const COMMIT_END_OFFSET = 25 + 1 + 1 + 8;
const STATUS_INTERVAL_MS = 5_000;

interface CopyData {
  readonly chunk: Buffer;
}

/**
 * The floor that a stream is measured against: pg with its own reader, an event per CopyData, and
 * nothing done with the bytes but counting them. Confirms nothing, so a slot can be counted again.
 */
export async function countSlot(options: CountOptions): Promise<Count> {
  const { client } = await connectClient(options.node, {
    applicationName: 'aced floor',
    replication: 'database',
  });
  const { connection } = client;
  let bytes = 0;
  let messages = 0;
  const startedMs = performance.now();
  const startedCpu = process.cpuUsage();
  const status = setInterval(() => {
    connection.stream.write(statusUpdate(options.startLsn, Date.now(), false));
  }, STATUS_INTERVAL_MS);
  try {
    await new Promise<void>((resolve, reject) => {
      // pg's client takes a copy that it did not start itself for an error.
      connection.removeAllListeners('copyData');
      connection.on('copyData', ({ chunk }: CopyData) => {
        bytes += chunk.length;
        if (chunk[0] !== XLOG_DATA) return;
        messages += 1;
        if (chunk[25] !== COMMIT) return;
        if (chunk.readBigUInt64BE(COMMIT_END_OFFSET) >= options.untilLsn) resolve();
      });
      connection.on('errorMessage', reject);
      connection.on('error', reject);
      connection.on('end', () => {
        reject(new Error(`the stream ended before ${formatLsn(options.untilLsn)}`));
      });
      connection.query(startReplicationSql(options));
    });
  } finally {
    clearInterval(status);
    connection.removeAllListeners('errorMessage');
    connection.stream.destroy();
  }
  const cpu = process.cpuUsage(startedCpu);
  return {
    bytes,
    messages,
    seconds: (performance.now() - startedMs) / 1000,
    cpuSeconds: (cpu.user + cpu.system) / 1e6,
  };
}
