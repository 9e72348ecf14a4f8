import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AcedError, errorMessage } from '../base/errors.js';

export interface YamlSearch {
  readonly env: NodeJS.ProcessEnv;
  readonly cwd: string;
  readonly home: string;
}

export interface TextFile {
  readonly path: string;
  readonly content: string;
}

/** A YAML file flattened: dotted key -> value with its line. */
export interface YamlFile {
  readonly path: string;
  readonly values: ReadonlyMap<string, { readonly value: unknown; readonly line: number }>;
}

/** `$ACED_CONFIG` must be there; else the first of `./`, `~/.config/aced/` and `/etc/aced/`. */
export function findAcedYaml({ env, cwd, home }: YamlSearch): TextFile | undefined {
  const named = env['ACED_CONFIG'];
  if (named === undefined || named === '') {
    return firstFile(yamlPlaces('aced', cwd, home));
  }
  const found = firstFile([join(absoluteDir(named, cwd), named)]);
  if (found !== undefined) return found;
  throw new AcedError('BAD_CONFIG', `the file that ACED_CONFIG names is not there: ${named}`, {
    hint: 'Correct the variable, or unset it.',
  });
}

/** The first of `$ACE_CONFIG`, `./`, `~/.config/ace/` and `/etc/ace/` that exists, as ACE does. */
export function findAceYaml({ env, cwd, home }: YamlSearch): TextFile | undefined {
  const named = env['ACE_CONFIG'];
  const first = named === undefined || named === '' ? [] : [join(absoluteDir(named, cwd), named)];
  return firstFile([...first, ...yamlPlaces('ace', cwd, home)]);
}

function yamlPlaces(program: string, cwd: string, home: string): string[] {
  const file = `${program}.yaml`;
  return [join(cwd, file), join(home, '.config', program, file), join('/etc', program, file)];
}

function absoluteDir(path: string, cwd: string): string {
  return path.startsWith('/') ? '' : cwd;
}

/** The first that exists. One that exists and cannot be read is an error, not a miss. */
export function firstFile(paths: readonly string[]): TextFile | undefined {
  for (const path of paths) {
    const content = readIfThere(path);
    if (content !== undefined) return { path, content };
  }
  return undefined;
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw new AcedError('BAD_CONFIG', `cannot read ${path}: ${errorMessage(error)}`, {
      hint: `Make it readable, or move it away from ${dirname(path)}.`,
      cause: error,
    });
  }
}

/** Loads the YAML parser only here: most runs of acectl do without it. Errors: BAD_CONFIG. */
export async function parseYamlFile(file: TextFile): Promise<YamlFile> {
  const yaml = await import('yaml');
  const lines = new yaml.LineCounter();
  const document = yaml.parseDocument(file.content, { lineCounter: lines });
  const [error] = document.errors;
  if (error !== undefined) {
    const line = lines.linePos(error.pos[0]).line;
    // The first line only: the rest quotes the file.
    const what = error.message.split('\n')[0] ?? '';
    throw new AcedError('BAD_CONFIG', `${file.path}, line ${line}: ${what}`, {
      hint: 'Indent with spaces; put a value with ": ", " #" or a special first character in quotes.',
      cause: error,
    });
  }
  const values = new Map<string, { value: unknown; line: number }>();
  const walk = (node: unknown, prefix: string): void => {
    if (!yaml.isMap(node)) return;
    for (const pair of node.items) {
      const key = `${prefix}${String(yaml.isScalar(pair.key) ? pair.key.value : pair.key)}`;
      const offset = yaml.isNode(pair.key) ? (pair.key.range?.[0] ?? 0) : 0;
      if (yaml.isMap(pair.value)) walk(pair.value, `${key}.`);
      else {
        const value: unknown = yaml.isNode(pair.value) ? pair.value.toJS(document) : pair.value;
        values.set(key, { value, line: lines.linePos(offset).line });
      }
    }
  };
  const root = document.contents;
  if (root !== null && !yaml.isMap(root) && !(yaml.isScalar(root) && root.value === null)) {
    throw new AcedError('BAD_CONFIG', `${file.path}: not a mapping of keys to values`, {
      hint: 'Write `key: value` lines; acectl config init prints them all into a new file.',
    });
  }
  walk(root, '');
  return { path: file.path, values };
}
