/** Takes two columns of a terminal: wide and full-width by UAX #11 (by blocks), and emoji. */
const WIDE =
  /^[\u{1100}-\u{115f}\u{2329}\u{232a}\u{2e80}-\u{303e}\u{3041}-\u{a4cf}\u{a960}-\u{a97f}\u{ac00}-\u{d7a3}\u{f900}-\u{faff}\u{fe10}-\u{fe19}\u{fe30}-\u{fe6f}\u{ff01}-\u{ff60}\u{ffe0}-\u{ffe6}\u{16fe0}-\u{18dff}\u{1aff0}-\u{1b2ff}\u{20000}-\u{3fffd}\p{Emoji_Presentation}]/u;
/** Written over the one before. */
const MARK = /^\p{M}+$/u;
/** What a terminal may take for a command, or what turns the direction of a line. */
const CONTROL = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu;

const graphemes = new Intl.Segmenter('en', { granularity: 'grapheme' });

/** Text of others, fit for a terminal: control characters as `\u001b`. */
export function printable(text: string): string {
  return text.replace(
    CONTROL,
    (one) => `\\u${(one.codePointAt(0) ?? 0).toString(16).padStart(4, '0')}`,
  );
}

/** Columns that printable text takes. */
export function widthOf(text: string): number {
  // ASCII is what nearly all is.
  if (/^[ -~]*$/.test(text)) return text.length;
  let width = 0;
  for (const { segment } of graphemes.segment(text)) width += widthOfGrapheme(segment);
  return width;
}

/** The longest beginning that takes no more columns; what was cut off is shown by `~`. */
export function clip(text: string, columns: number): string {
  if (widthOf(text) <= columns) return text;
  if (columns <= 0) return '';
  let kept = '';
  let width = 0;
  for (const { segment } of graphemes.segment(text)) {
    width += widthOfGrapheme(segment);
    if (width > columns - 1) break;
    kept += segment;
  }
  return `${kept}~`;
}

/** Exactly so many columns. */
export function fit(text: string, columns: number, isRight = false): string {
  const clipped = clip(text, columns);
  const rest = ' '.repeat(Math.max(0, columns - widthOf(clipped)));
  return isRight ? `${rest}${clipped}` : `${clipped}${rest}`;
}

function widthOfGrapheme(grapheme: string): number {
  if (MARK.test(grapheme)) return 0;
  return WIDE.test(grapheme) ? 2 : 1;
}
