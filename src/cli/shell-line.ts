export type Quote = '' | "'" | '"';

/** A command line that is being typed, up to the cursor. */
export interface ShellLine {
  /** Whole words, without their quotes. */
  readonly words: readonly string[];
  /** The word at the cursor; empty between two words. */
  readonly current: {
    /** As typed, quotes and all. */
    readonly raw: string;
    readonly text: string;
    /** The quote that is open at the cursor. */
    readonly quote: Quote;
  };
}

/** Words as bash, zsh and fish have them; nothing is expanded. Of several commands the last one. */
export function readShellLine(line: string): ShellLine {
  let words: string[] = [];
  let raw = '';
  let text = '';
  let quote: Quote = '';
  for (let at = 0; at < line.length; at++) {
    const char = line.charAt(at);
    if (quote === '' && /[\s;|&]/.test(char)) {
      if (raw !== '') words.push(text);
      if (/[;|&]/.test(char)) words = [];
      raw = '';
      text = '';
      continue;
    }
    raw += char;
    const next = line.charAt(at + 1);
    const isEscape =
      char === '\\' && next !== '' && (quote === '' || (quote === '"' && /["\\$`]/.test(next)));
    if (isEscape) {
      raw += next;
      text += next;
      at++;
    } else if (quote === '' && (char === "'" || char === '"')) quote = char;
    else if (char === quote) quote = '';
    else text += char;
  }
  return { words, current: { raw, text, quote } };
}

const NEEDS_ESCAPE = /[^\w.,:/=@%+-]/g;

/** What has to be written after `quote` for the shell to read `text`. */
export function shellText(text: string, quote: Quote): string {
  if (quote === "'") return text.replaceAll("'", "'\\''");
  if (quote === '"') return text.replace(/["\\$`]/g, '\\$&');
  return text.replace(NEEDS_ESCAPE, '\\$&');
}
