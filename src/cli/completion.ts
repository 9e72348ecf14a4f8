import { basename } from 'node:path';
import { offersOf, type NameSource, type Offer } from './complete.js';
import { isShell, type Shell } from './completion-script.js';
import { readShellLine, shellText, type ShellLine } from './shell-line.js';

const GRACE_MS = 200;

/**
 * The answer to a script of `acectl completion`: a line `words` or `files`, then a line for each word
 * that may follow, with a tab and its meaning where the shell shows it. Never fails: an error would stand
 * in the middle of what a person types.
 *
 * @param args the shell, its line up to the cursor and, of bash, the part of it that will be replaced
 * @param patienceMs a person waits: what has not come by then is not offered
 */
export async function answerCompletion(
  [shell = '', line = '', replaced]: readonly string[],
  { names, patienceMs }: { readonly names: NameSource; readonly patienceMs: number },
): Promise<string> {
  const typed = readShellLine(line);
  const [program = '', ...words] = typed.words;
  const current = typed.current.text;
  const late = new Promise<readonly Offer[]>((resolve) => {
    // Whoever has a limit of its own answers with what it has.
    setTimeout(resolve, patienceMs + GRACE_MS, []).unref();
  });
  const asked = offersOf(basename(program), { words, current, names }).catch(() => []);
  const offers = await Promise.race([asked, late]);
  if (offers === 'files') return 'files\n';
  const lines = offers
    // A line of the answer is a word.
    .filter(({ text }) => text.startsWith(current) && !/\p{Cc}/u.test(text))
    .map((offer) => (isShell(shell) ? written(offer, shell, { typed, replaced }) : offer.text));
  return ['words', ...lines, ''].join('\n');
}

function written(
  { text, doc }: Offer,
  shell: Shell,
  place: { readonly typed: ShellLine; readonly replaced: string | undefined },
): string {
  // The others quote by themselves.
  if (shell === 'bash') return bashWord(text, place);
  return doc === '' ? text : `${text}\t${doc}`;
}

/** readline replaces what stands after the last quote, or after a character such as `=`. */
function bashWord(
  text: string,
  { typed, replaced }: { readonly typed: ShellLine; readonly replaced: string | undefined },
): string {
  const { raw, quote } = typed.current;
  const isEnd = replaced !== undefined && raw.endsWith(replaced);
  const kept = raw.slice(0, raw.length - (isEnd ? replaced.length : raw.length));
  return shellText(text.slice(readShellLine(kept).current.text.length), quote);
}
