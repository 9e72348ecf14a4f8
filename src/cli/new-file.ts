import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { AcedError, errorMessage } from '../base/errors.js';
import type { NewFile } from './cluster-file.js';
import type { FlagValues } from './flags.js';
import { EXIT_DONE } from './outcome-lines.js';
import type { Terminal } from './terminal.js';

interface Writing {
  readonly flags: FlagValues;
  readonly terminal: Terminal;
  readonly cwd: string;
}

/** Never over a file that is there, unless asked. Returns the exit code. Errors: BAD_CONFIG. */
export function writeNewFile(
  { path, content }: NewFile,
  { flags, terminal, cwd }: Writing,
): number {
  if (flags.get('stdout') === true) {
    terminal.text(content);
    return EXIT_DONE;
  }
  const target = resolve(cwd, path);
  try {
    writeFileSync(target, content, { flag: flags.get('force') === true ? 'w' : 'wx' });
  } catch (error) {
    const isThere = error instanceof Error && 'code' in error && error.code === 'EEXIST';
    throw new AcedError(
      'BAD_CONFIG',
      isThere ? `${path} is there already` : `cannot write ${path}: ${errorMessage(error)}`,
      {
        hint: isThere
          ? 'Give another --path, --stdout, or --force to write over it.'
          : 'Give another --path.',
        cause: error,
      },
    );
  }
  terminal.line({ level: 'info', text: `Wrote ${path}` });
  return EXIT_DONE;
}
