import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VERSION } from '../commands/version.js';
import { manPages } from './pages.js';

/** npm run build:man. Writes the manual anew below the folder that is named. */
const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('usage: node dist/src/man/write.js FOLDER');
rmSync(folder, { recursive: true, force: true });
for (const [path, text] of manPages(VERSION)) {
  const file = join(folder, path);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
}
