// Appends events to the file that is named, so many as are asked for, under whatever limit it was started with.
import { createLogger } from '../../src/base/log.js';
import { EventFile } from '../../src/drift/event-file.js';

const [path = '', from = '0', to = '0'] = process.argv.slice(2);
const file = new EventFile(path, createLogger('info'));
for (let number = Number(from); number < Number(to); number++) {
  const fields = { event: 'drift_opened', number, reason: 'x'.repeat(300) };
  file.append({ level: 'warn', fields, message: 'a row differs' }, true);
}
