/**
 * The line with U+007F to U+009F as JSON escapes: JSON leaves them as they are, journald hands a line that
 * holds one out as bytes, and terminals take some of them for commands.
 */
export function escapeControls(line: string): string {
  return line.replace(
    /[\u007f-\u009f]/g,
    (control) => `\\u${control.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
