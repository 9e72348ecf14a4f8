import { AcedError } from '../base/errors.js';
import type { CommandContext } from '../protocol/commands.js';

/** The path of the diff file that a command works from. Errors: BAD_USAGE. */
export function requireInput({ inputPath }: CommandContext): string {
  if (inputPath !== undefined) return inputPath;
  throw new AcedError('BAD_USAGE', 'no diff file is given', {
    hint: 'Name the file that table-diff wrote: --diff-file <file>.',
  });
}

/** The daemon reads a copy of the file, under a path that says nothing to the user. */
export function namedAsTyped(error: unknown, { inputPath, inputName }: CommandContext): unknown {
  if (!(error instanceof AcedError) || error.code !== 'BAD_DIFF_FILE') return error;
  if (inputPath === undefined || inputName === undefined) return error;
  return new AcedError(error.code, error.message.replaceAll(inputPath, inputName), {
    ...(error.hint === undefined ? {} : { hint: error.hint }),
    logMessage: error.logMessage.replaceAll(inputPath, inputName),
    cause: error,
  });
}
