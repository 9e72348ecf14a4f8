import { writeSync } from 'node:fs';
import { Store } from '../../src/store/store.js';
import { batchOf, CLUSTER } from './fixtures.js';

/**
 * Run by store.test: `hold` keeps the state open, `write` saves batch after batch until it is
 * killed. Says `batch n` after each, unbuffered.
 */
const [, , mode, stateDir] = process.argv;
const store = Store.open(stateDir ?? '', CLUSTER);
const [table] = store.tables();
if (mode === 'write' && table !== undefined) {
  const { ids } = store.layout(table.id);
  for (let number = Number(store.node('n1')?.position ?? 0n) + 1; ; number++) {
    store.saveBatch(batchOf(number, table.id, ids));
    writeSync(1, `batch ${number}\n`);
  }
}
writeSync(1, 'open\n');
setInterval(() => undefined, 60_000);
