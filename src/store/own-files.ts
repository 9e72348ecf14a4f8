import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

const OWNER_ONLY_DIRECTORY = 0o700;
const OWNER_ONLY_FILE = 0o600;

/**
 * The directory and those above it that are missing, for the owner only. One after another: Node's
 * recursive mkdir tries for ever where a parent can neither be entered nor made, e.g. below a link
 * to nowhere (nodejs/node#31481 and its like). Errors: those of the file system.
 */
export function makeDirectory(path: string): void {
  const missing: string[] = [];
  for (let at = path; !isThere(at); at = dirname(at)) missing.push(at);
  for (const one of missing.reverse()) {
    try {
      mkdirSync(one, { mode: OWNER_ONLY_DIRECTORY });
    } catch (error) {
      // Somebody else has just made it.
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
      if (statSync(one, { throwIfNoEntry: false })?.isDirectory() !== true) throw error;
    }
  }
}

/** `/` always is. Throws where a parent is no directory. */
function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/** An empty file for the owner only, unless there is one; SQLite gives its companions the same mode. */
export function makeFile(path: string): void {
  closeSync(openSync(path, 'a', OWNER_ONLY_FILE));
}
