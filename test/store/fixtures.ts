import type { Lsn } from '../../src/base/lsn.js';
import type { TableSpec } from '../../src/table/table-spec.js';
import type { NodeBatch, StoredLeaf } from '../../src/store/store.js';
import { BUILT_IN_KEY } from '../support/key-column.js';

export const CLUSTER = 'test';

export function specOf(name: string): TableSpec {
  return {
    schema: 'public',
    name,
    key: [
      {
        ...{ name: 'id', typeName: 'integer', textForm: 'plain', orderKind: 'integer' },
        ...{ collate: null, ...BUILT_IN_KEY },
      },
    ],
    isKeyOrdered: true,
    columns: [{ name: 'id', textForm: 'plain' }],
    excluded: [{ name: 'total', reason: 'generated column', cause: 'generated' }],
    warnings: ['something'],
  };
}

/** Leaves of batch `number`: every value tells the batch that it is from. */
export function leavesOf(number: number, blocks: readonly number[]): StoredLeaf[] {
  return blocks.map((blockId) => ({
    blockId,
    rows: number * 1000 + blockId,
    sumLow: -blockId,
    sumHigh: (number << 8) - 1,
    isDirty: (number + blockId) % 2 === 0,
    filter: number,
    provedAtMs: 1_700_000_000_000 + number,
  }));
}

export function batchOf(number: number, tableId: number, blocks: readonly number[]): NodeBatch {
  return {
    node: 'n1',
    position: BigInt(number) as Lsn,
    leaves: leavesOf(number, blocks).map((leaf) => ({ tableId, leaf })),
    filters: [{ id: number, snapshot: `${number}:${number + 2}:${number}`, fence: 5n as Lsn }],
  };
}
