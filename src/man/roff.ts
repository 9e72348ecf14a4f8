/**
 * Text as man's macros take it, letter for letter what it was: no letter begins a request, hyphens and
 * quotes can be copied into a shell (groff_char(7), man-pages(7)).
 */
export function literal(text: string): string {
  const escaped = text.replace(/[\\'`^~"-]|[^\n -~]/gu, (char) => ESCAPES[char] ?? codePoint(char));
  return escaped.replace(/^\./gm, '\\&.');
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\\': '\\(rs',
  "'": '\\(aq',
  '`': '\\(ga',
  '^': '\\(ha',
  '~': '\\(ti',
  '"': '\\(dq',
  '-': '\\-',
};

function codePoint(char: string): string {
  const hex = (char.codePointAt(0) ?? 0).toString(16).toUpperCase();
  return `\\[u${hex.padStart(4, '0')}]`;
}

export const bold = (text: string): string => `\\fB${literal(text)}\\fR`;
export const italic = (text: string): string => `\\fI${literal(text)}\\fR`;

export const section = (heading: string): string => `.SH ${quoted(heading.toUpperCase())}\n`;
export const subsection = (heading: string): string => `.SS ${quoted(heading)}\n`;
export const paragraph = (text: string): string => `.PP\n${literal(text)}\n`;

/** `term`: with its fonts, as `bold` and `italic` make it. */
export const tagged = (term: string, text: string): string => `.TP\n${term}\n${literal(text)}\n`;

/** Lines as they are, indented. */
export const block = (lines: readonly string[]): string =>
  `.PP\n.RS 4\n.EX\n${literal(lines.join('\n'))}\n.EE\n.RE\n`;

/** What names a thing is neither stretched nor broken. */
const LEFT_ALIGNED = '.ad l\n.nh\n';

export const title = (page: string, volume: 1 | 5 | 8, release: string): string =>
  `.TH ${quoted(page.toUpperCase())} ${volume} "" ${quoted(`aced ${release}`)} "aced manual"\n${LEFT_ALIGNED}`;

function quoted(text: string): string {
  return `"${literal(text)}"`;
}
