import type { IncomingMessage } from 'node:http';
import { AcedError } from '../base/errors.js';

/** Errors: BAD_USAGE when it is longer. */
export async function readText(request: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  // The connection must outlive a refusal: the answer goes out on it.
  for await (const chunk of request.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw new AcedError('BAD_USAGE', 'the request is too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Errors: BAD_USAGE. */
export function parseJson(content: string): unknown {
  try {
    return JSON.parse(content);
  } catch (error) {
    throw new AcedError('BAD_USAGE', 'the request is not valid JSON', { cause: error });
  }
}
