import { link, open, rename, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { writing } from './output-file.js';

const MAX_ATTEMPTS = 1_000;

/**
 * Gives a finished temporary file its name, all at once, and never over an existing file: the name
 * is the first of `names(0)`, `names(1)`, ... that is free. Returns the name.
 */
export async function publishFile(
  temporaryPath: string,
  directory: string,
  names: (attempt: number) => string,
): Promise<string> {
  return writing(join(directory, names(0)), async () => {
    for (let attempt = 0; ; attempt += 1) {
      const name = names(attempt);
      try {
        await claim(temporaryPath, join(directory, name));
        await syncDirectory(directory);
        return name;
      } catch (error) {
        if (!hasCode(error, 'EEXIST') || attempt >= MAX_ATTEMPTS) throw error;
      }
    }
  });
}

async function claim(temporaryPath: string, path: string): Promise<void> {
  try {
    await link(temporaryPath, path);
    await unlink(temporaryPath);
  } catch (error) {
    if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].some((code) => hasCode(error, code))) {
      throw error;
    }
    // A file system without hard links: an empty file holds the name until the rename.
    await (await open(path, 'wx', 0o644)).close();
    await rename(temporaryPath, path);
  }
}

/** Makes the new name survive a crash; not every file system lets a directory be synced. */
async function syncDirectory(directory: string): Promise<void> {
  try {
    const handle = await open(directory, 'r');
    await handle.sync().finally(() => handle.close());
  } catch {
    return;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
