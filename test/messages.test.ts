import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import ts from 'typescript';

/** Tests run from the root of the checkout. */
const SRC = 'src';

interface Text {
  readonly where: string;
  /** `…` stands for what is put in. */
  readonly text: string;
}

/** Where a hint is written down: a property, a constant, an argument of these functions. */
const PROPERTIES = new Set(['hint', 'remedy', 'instead']);
const CONSTANT = /(HINTS?|[hH]int)$/;
const ARGUMENT: Readonly<Record<string, number>> = { usage: 1, warning: 2, problem: 2 };

/** In one style, as PostgreSQL has it (https://www.postgresql.org/docs/current/error-style-guide.html). */
const SENTENCE = /^["…A-Z].*(?:[.?;…]|: [^.]*|--help)$|^(?:GRANT|ALTER) /s;

/** What is not said so in English. */
const UNENGLISH = [
  /\banew\b/,
  /\bmade again\b/,
  /(?<!\bthere) (?:is|are|was) no (?!longer\b|aced\b|other\b)/,
  /\b(?:which|that) the (?:cluster|node|table) has not\b/,
];

function sourceFiles(): ts.SourceFile[] {
  return readdirSync(SRC, { recursive: true, encoding: 'utf8' })
    .filter((path) => path.endsWith('.ts'))
    .sort()
    .map((path) => {
      const text = readFileSync(join(SRC, path), 'utf8');
      return ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true);
    });
}

/** Undefined: no text of its own. */
function written(node: ts.Node): string | undefined {
  if (ts.isStringLiteralLike(node)) return node.text;
  if (!ts.isTemplateExpression(node)) return undefined;
  return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('');
}

/** Every text that the expression may become. What comes from elsewhere is looked at there. */
function textsOf(node: ts.Node): string[] {
  const text = written(node);
  if (text !== undefined) return [text];
  if (ts.isParenthesizedExpression(node)) return textsOf(node.expression);
  if (ts.isConditionalExpression(node)) {
    return [...textsOf(node.whenTrue), ...textsOf(node.whenFalse)];
  }
  if (ts.isObjectLiteralExpression(node)) {
    return node.properties.flatMap((property) =>
      ts.isPropertyAssignment(property) ? textsOf(property.initializer) : [],
    );
  }
  if (!ts.isBinaryExpression(node)) return [];
  const [left, right] = [textsOf(node.left), textsOf(node.right)];
  if (node.operatorToken.kind !== ts.SyntaxKind.PlusToken) return [...left, ...right];
  return [`${left.join('') || '…'}${right.join('') || '…'}`];
}

function hintIn(node: ts.Node): ts.Node | undefined {
  if (ts.isPropertyAssignment(node) && PROPERTIES.has(node.name.getText())) return node.initializer;
  if (ts.isVariableDeclaration(node) && CONSTANT.test(node.name.getText())) return node.initializer;
  if (!ts.isCallExpression(node)) return undefined;
  const at = ARGUMENT[node.expression.getText()];
  return at === undefined ? undefined : node.arguments[at];
}

function collect(textsIn: (node: ts.Node) => readonly string[]): Text[] {
  const found: Text[] = [];
  for (const file of sourceFiles()) {
    const visit = (node: ts.Node): void => {
      const line = file.getLineAndCharacterOfPosition(node.getStart()).line + 1;
      const where = `${file.fileName}:${line}`;
      found.push(...textsIn(node).map((text) => ({ where, text })));
      ts.forEachChild(node, visit);
    };
    visit(file);
  }
  return found;
}

const shown = ({ where, text }: Text): string => `${where}: ${text}`;

describe('what a person reads', () => {
  it('has hints in one style: sentences; what can be pasted may stand after a colon', () => {
    const hints = collect((node) => {
      const hint = hintIn(node);
      return hint === undefined ? [] : textsOf(hint);
    });
    assert.ok(hints.length > 200, `only ${hints.length} hints were found`);
    const odd = hints.filter(({ text }) => text !== '' && !SENTENCE.test(text));
    assert.deepEqual(odd.map(shown), []);
  });

  it('is plain English', () => {
    const texts = collect((node) => {
      const text = written(node);
      return text === undefined || ts.isImportDeclaration(node.parent) ? [] : [text];
    });
    assert.ok(texts.length > 2_000, `only ${texts.length} texts were found`);
    // What has several lines is SQL.
    const odd = texts.filter(
      ({ text }) => !text.includes('\n') && UNENGLISH.some((pattern) => pattern.test(text)),
    );
    assert.deepEqual(odd.map(shown), []);
  });
});
