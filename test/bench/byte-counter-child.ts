// Reads one slot and only counts its bytes, until it is killed.
import { randomUUID } from 'node:crypto';
import type { NodeConfig } from '../../src/config/config.js';
import { countBytes } from './byte-counter.js';

const { node, slotName, publicationName } = JSON.parse(process.argv[2] ?? '{}') as {
  node: NodeConfig;
  slotName: string;
  publicationName: string;
};
await countBytes({ node, slot: slotName, publication: publicationName, endMark: randomUUID() });
