import { AcedError, errorMessage } from '../base/errors.js';
import type { NodeDraft, DraftSetting } from './nodes.js';

export interface JsonCluster {
  readonly nodes: readonly NodeDraft[];
  /** Dotted names of keys that have no meaning for us. */
  readonly ignored: readonly string[];
}

interface JsonObject {
  readonly [key: string]: unknown;
}

const ROOT_KEYS = new Set(['cluster_name', 'pgedge', 'node_groups']);
const NODE_KEYS = new Set(['name', 'is_active', 'public_ip', 'private_ip', 'port']);
const ACTIVE = new Set(['yes', 'on', 'true', '1']);
const INACTIVE = new Set(['no', 'off', 'false', '0']);

/**
 * pgEdge's `<cluster>.json`. `database` picks the entry of `pgedge.databases`; otherwise the first
 * counts. Nodes whose is_active is no or off are left out. Errors: BAD_CONFIG.
 */
export function parseClusterJson(
  content: string,
  file: string,
  database: string | undefined,
): JsonCluster {
  const root = asObject(parseJson(content, file), file, 'the file');
  const pgedge = asObject(root['pgedge'] ?? {}, file, 'pgedge');
  const credentials = pickDatabase(asList(pgedge['databases'], file, 'pgedge.databases'), {
    file,
    database,
  });
  const groups = asList(root['node_groups'], file, 'node_groups');
  const ignored = new Set([...Object.keys(root)].filter((key) => !ROOT_KEYS.has(key)));
  for (const key of Object.keys(pgedge)) if (key !== 'databases') ignored.add(`pgedge.${key}`);
  const nodes: NodeDraft[] = [];
  for (const [index, value] of groups.entries()) {
    const where = `node_groups[${index}]`;
    const group = asObject(value, file, where);
    for (const key of Object.keys(group)) {
      if (!NODE_KEYS.has(key)) ignored.add(`node_groups.${key}`);
    }
    if (!isActive(group['is_active'], `${file}, ${where}.is_active`)) continue;
    nodes.push(readGroup(group, { file, where, credentials }));
  }
  return { nodes, ignored: [...ignored] };
}

/** Whether the text is a cluster definition, of whatever worth. */
export function hasNodeGroups(content: string): boolean {
  if (!content.includes('"node_groups"')) return false;
  try {
    const root: unknown = JSON.parse(content.replace(/^\uFEFF/, ''));
    return (
      typeof root === 'object' &&
      root !== null &&
      'node_groups' in root &&
      Array.isArray(root.node_groups)
    );
  } catch {
    return false;
  }
}

interface GroupContext {
  readonly file: string;
  readonly where: string;
  readonly credentials: readonly DraftSetting[];
}

function readGroup(group: JsonObject, { file, where, credentials }: GroupContext): NodeDraft {
  const name = scalar(group['name'], `${file}, ${where}.name`);
  if (name === undefined) throw bad(`${file}, ${where}: the node has no name`);
  const settings = [...credentials];
  const add = (key: string, from: string): boolean => {
    const value = scalar(group[from], `${file}, ${where}.${from}`);
    if (value !== undefined) settings.push({ key, value, where: `${file}, ${where}.${from}` });
    return value !== undefined;
  };
  if (!add('host', 'public_ip')) add('host', 'private_ip');
  add('port', 'port');
  return { name, where: `${file}, ${where}`, settings };
}

function pickDatabase(
  databases: readonly unknown[],
  { file, database }: { file: string; database: string | undefined },
): DraftSetting[] {
  const entries = databases.map((value, index) => {
    const where = `${file}, pgedge.databases[${index}]`;
    const entry = asObject(value, file, `pgedge.databases[${index}]`);
    const settings: DraftSetting[] = [];
    for (const [key, from] of [
      ['dbname', 'db_name'],
      ['user', 'db_user'],
      ['password', 'db_password'],
    ] as const) {
      const found = scalar(entry[from], `${where}.${from}`);
      if (found !== undefined) settings.push({ key, value: found, where: `${where}.${from}` });
    }
    return settings;
  });
  if (database === undefined) return entries[0] ?? [];
  const nameOf = (settings: readonly DraftSetting[]): string | undefined =>
    settings.find(({ key }) => key === 'dbname')?.value;
  const wanted = entries.find((settings) => nameOf(settings) === database);
  if (wanted !== undefined) return wanted;
  const known = entries.flatMap((settings) => nameOf(settings) ?? []).join(', ');
  throw bad(
    `${file}: no database ${JSON.stringify(database)} in pgedge.databases`,
    `It has: ${known}.`,
  );
}

function isActive(value: unknown, where: string): boolean {
  const word = scalar(value, where)?.toLowerCase();
  if (word === undefined || ACTIVE.has(word)) return true;
  if (INACTIVE.has(word)) return false;
  throw bad(`${where}: ${JSON.stringify(value)} is not accepted`, 'Accepted: yes, on, no, off.');
}

/** Text of a string, number or boolean; undefined when absent or empty. */
function scalar(value: unknown, where: string): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value === 'string') return value;
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  throw bad(`${where}: a text or a number is expected`);
}

function parseJson(content: string, file: string): unknown {
  try {
    return JSON.parse(content.replace(/^\uFEFF/, ''));
  } catch (error) {
    // Newer engines quote the text around the fault, which may be a password.
    const message = errorMessage(error);
    const position = /position (\d+)/.exec(message)?.[1];
    const line = position === undefined ? undefined : lineAt(content, Number(position));
    const where = line === undefined ? file : `${file}, line ${line}`;
    throw bad(`${where}: not valid JSON`);
  }
}

function lineAt(content: string, offset: number): number {
  return content.slice(0, offset).split('\n').length;
}

function asObject(value: unknown, file: string, what: string): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    return { ...value };
  }
  throw bad(`${file}: ${what} must be an object`);
}

function asList(value: unknown, file: string, what: string): readonly unknown[] {
  if (value === undefined) return [];
  if (Array.isArray(value)) return value;
  throw bad(`${file}: ${what} must be a list`);
}

function bad(message: string, hint?: string): AcedError {
  return new AcedError('BAD_CONFIG', message, hint === undefined ? {} : { hint });
}
