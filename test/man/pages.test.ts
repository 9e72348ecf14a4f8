import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { ACED, COMMON } from '../../src/cli/flags.js';
import { COMMANDS } from '../../src/cli/commands.js';
import { OPTIONS } from '../../src/config/options.js';
import { manPages } from '../../src/man/pages.js';
import { bold, literal } from '../../src/man/roff.js';

const PAGES = manPages('1.2.3');
const hasGroff = spawnSync('groff', ['--version']).error === undefined;

function page(path: string): string {
  const text = PAGES.get(path);
  assert.ok(text !== undefined, `no page ${path}`);
  return text;
}

/** The entries of a page: a tag and what is said of it. */
function entries(text: string): Map<string, string> {
  return new Map(
    Array.from(text.matchAll(/^\.TP\n(.*)\n([^]*?)\n(?=\.|$)/gm), ([, tag = '', said = '']) => [
      tag,
      said,
    ]),
  );
}

function groff(input: string): { text: string; warnings: string } {
  const args = ['-man', '-ww', '-Tutf8', '-P-cbou'];
  const { stdout, stderr } = spawnSync('groff', args, { input, encoding: 'utf8' });
  return { text: stdout, warnings: stderr };
}

describe('manual', () => {
  it('has a page for each command, with its flags, examples and operands', () => {
    for (const { words, flags, examples, doc } of COMMANDS) {
      const name = ['acectl', ...words].join('-');
      const text = page(`man1/${name}.1`);
      assert.ok(text.includes(`\n${literal(name)} \\- ${literal(doc)}\n`), name);
      const found = entries(text);
      for (const flag of flags) {
        const tag = [...found.keys()].find((one) => one.includes(bold(`--${flag.name}`)));
        assert.ok(tag !== undefined, `${name}: --${flag.name}`);
        if (flag.short !== undefined) assert.ok(tag.startsWith(bold(`-${flag.short}`)), tag);
        assert.ok(found.get(tag)?.startsWith(literal(flag.refused ?? flag.doc)), `${name}: ${tag}`);
      }
      for (const example of examples) assert.ok(text.includes(literal(example)), example);
    }
  });

  it('names every command in acectl(1), every option in aced.yaml(5), every flag in aced(8)', () => {
    const overview = [...entries(page('man1/acectl.1')).keys()];
    for (const tag of [
      ...COMMANDS.map(({ words }) => bold(words.join(' '))),
      ...COMMON.map(({ name }) => bold(`--${name}`)),
    ]) {
      assert.ok(
        overview.some((one) => one.includes(tag)),
        tag,
      );
    }
    const options = entries(page('man5/aced.yaml.5'));
    for (const { key, env, doc, kind } of Object.values(OPTIONS)) {
      const said = options.get(`${bold(key)} (${bold(env)})`);
      assert.ok(said?.startsWith(literal(`${doc}; ${kind.accepts}`)), key);
    }
    const daemon = [...entries(page('man8/aced.8')).keys()];
    for (const { name } of ACED) {
      assert.ok(
        daemon.some((one) => one.includes(bold(`--${name}`))),
        name,
      );
    }
  });

  it('refers to pages that are there', () => {
    const known = new Set([...PAGES.keys()].map((path) => path.split('/')[1]));
    for (const [path, text] of PAGES) {
      const [, list = ''] = text.split('.SH "SEE ALSO"\n');
      const others = Array.from(list.matchAll(/\\fB(.*?)\\fR\((\d)\)/g), ([, name = '', volume]) =>
        `${name}.${volume ?? ''}`.replaceAll('\\-', '-'),
      );
      assert.ok(others.length > 0, path);
      for (const other of others) assert.ok(known.has(other), `${path}: ${other}`);
    }
  });

  it('is written by the build into its folders', () => {
    const folder = mkdtempSync(join(tmpdir(), 'aced-man-'));
    try {
      const script = join(import.meta.dirname, '../../src/man/write.js');
      const { status, stderr } = spawnSync(process.execPath, [script, folder], {
        encoding: 'utf8',
      });
      assert.deepEqual([status, stderr], [0, '']);
      const written = readdirSync(folder, { recursive: true, encoding: 'utf8' });
      assert.deepEqual(
        written.filter((file) => file.includes('/')).sort(),
        [...PAGES.keys()].sort(),
      );
      assert.match(readFileSync(join(folder, 'man8/aced.8'), 'utf8'), /^\.TH "ACED" 8 /);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it('escapes what has a meaning to man', () => {
    assert.equal(literal("a-b 'c' \\d\n.e\n'f"), 'a\\-b \\(aqc\\(aq \\(rsd\n\\&.e\n\\(aqf');
    assert.equal(literal('✔ "x" ~^`'), '\\[u2714] \\(dqx\\(dq \\(ti\\(ha\\(ga');
  });

  it('is read by groff without a warning', { skip: !hasGroff }, () => {
    for (const [path, text] of PAGES) {
      const { text: shown, warnings } = groff(text);
      assert.equal(warnings, '', path);
      assert.match(shown, /^SEE ALSO$/m, path);
      assert.doesNotMatch(shown, /\\|\bfB/, path);
    }
    const lines = ['it\'s --a "b" ~/c ^`d` \\n', '.not a request', "'nor this one", 'ü ✔ …'];
    const { text, warnings } = groff(`.TH X 1\n.EX\n${literal(lines.join('\n'))}\n.EE\n`);
    assert.equal(warnings, '');
    for (const line of lines) assert.ok(text.includes(line), `${line} in ${text}`);
  });
});
