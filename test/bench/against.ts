import { execFile } from 'node:child_process';
import { mkdtemp, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../src/base/native.js';

const run = promisify(execFile);

export interface Baseline {
  /** Its program that is measured. */
  readonly child: string;
  readonly remove: () => Promise<void>;
}

/** Builds a commit of this repository in a folder of its own, with the dependencies of this one. */
export async function buildBaseline(commit: string): Promise<Baseline> {
  const root = packageRoot();
  if (root === null) throw new Error('no package folder above the program');
  const folder = join(await mkdtemp(join(tmpdir(), 'aced-against-')), 'aced');
  const git = (...args: string[]): Promise<unknown> => run('git', ['-C', root, ...args]);
  await git('worktree', 'add', '--detach', folder, commit);
  const remove = async (): Promise<void> => {
    await git('worktree', 'remove', '--force', folder);
  };
  try {
    await symlink(join(root, 'node_modules'), join(folder, 'node_modules'));
    const npx = (...args: string[]): Promise<unknown> => run('npx', args, { cwd: folder });
    await npx('tsc', '-p', 'tsconfig.json');
    await run('npm', ['run', 'build:native'], { cwd: folder });
  } catch (error) {
    await remove();
    throw error;
  }
  return { child: join(folder, 'dist', 'test', 'bench', 'engine-child.js'), remove };
}
