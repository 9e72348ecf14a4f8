import { execFile } from 'node:child_process';
import { access, constants, writeFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { errorMessage } from '../../src/base/errors.js';

const run = promisify(execFile);
/** proc_sys_vm(5). */
const DROP_CACHES = '/proc/sys/vm/drop_caches';

/** Null: it can be dropped, as root can. */
export async function whyNoPageCacheDrop(): Promise<string | null> {
  return access(DROP_CACHES, constants.W_OK).then(
    () => null,
    (error: unknown) => errorMessage(error),
  );
}

/** What was written goes to disk, and nothing that was read stays in the kernel's memory. */
export async function dropPageCache(): Promise<void> {
  await run('sync');
  await writeFile(DROP_CACHES, '3');
}
