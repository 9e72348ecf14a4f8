import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import type { NodeConfig } from '../config/config.js';

/**
 * The password of the first line that fits, from `$PGPASSFILE`, systemd's credential `pgpass`, or
 * `~/.pgpass`; read for each connection, so that another password counts from then on. Lines are
 * `host:port:database:user:password`; `*` fits anything, a backslash escapes `:` and itself, and a
 * unix socket counts as `localhost`. As libpq does, a file that others may read is ignored
 * (https://www.postgresql.org/docs/current/libpq-pgpass.html). `database` is the literal
 * `replication` for a physical walsender only, so never here.
 */
export async function passwordFromFile(
  node: NodeConfig,
  env: NodeJS.ProcessEnv = process.env,
): Promise<string | undefined> {
  const named = env['PGPASSFILE'];
  if (named !== undefined) return readPassword(named, node);
  const credentials = env['CREDENTIALS_DIRECTORY'];
  const given =
    credentials === undefined
      ? undefined
      : await readPassword(join(credentials, 'pgpass'), node, true);
  return given ?? readPassword(join(homedir(), '.pgpass'), node);
}

/**
 * @param isCredential lies in a directory that systemd made for the service alone: the file is root's
 * and has a list of who may read it, whose mask looks like rights of the group
 */
async function readPassword(
  file: string,
  node: NodeConfig,
  isCredential = false,
): Promise<string | undefined> {
  try {
    const { mode } = await stat(file);
    if (!isCredential && (mode & 0o077) !== 0) return undefined;
    return findPassword(await readFile(file, 'utf8'), node);
  } catch {
    // No such file, or not ours to read: the server will ask, and that error names the remedy.
    return undefined;
  }
}

/** Pure part of passwordFromFile. */
export function findPassword(
  content: string,
  node: Pick<NodeConfig, 'host' | 'port' | 'database' | 'user'>,
): string | undefined {
  const host = node.host.startsWith('/') ? 'localhost' : node.host;
  const wanted = [host, String(node.port), node.database, node.user];
  for (const line of content.split(/\r?\n/)) {
    if (line.startsWith('#')) continue;
    const fields = splitFields(line);
    const fits = wanted.every((value, i) => fields[i]?.raw === '*' || fields[i]?.text === value);
    if (fits && fields[4] !== undefined) return fields[4].text;
  }
  return undefined;
}

function splitFields(line: string): { raw: string; text: string }[] {
  const raws = [''];
  for (let i = 0; i < line.length; i++) {
    const char = line.charAt(i);
    if (char === ':') raws.push('');
    else if (char === '\\') raws.push(`${raws.pop() ?? ''}${line.slice(i, ++i + 1)}`);
    else raws.push(`${raws.pop() ?? ''}${char}`);
  }
  return raws.map((raw) => ({ raw, text: raw.replace(/\\(.)/g, '$1') }));
}
