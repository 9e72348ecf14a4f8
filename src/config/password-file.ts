import { readFile, stat } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import type { NodeConfig, PasswordFile } from './config.js';
import type { LocateOptions } from './locate.js';

/**
 * Where passwords may be, likeliest first: in `$PGPASSFILE` alone where that is set; else in systemd's
 * credential `pgpass`, then in `~/.pgpass` (https://www.postgresql.org/docs/current/libpq-pgpass.html).
 */
export function passwordFiles({
  env,
  cwd,
  home,
}: Pick<LocateOptions, 'env' | 'cwd' | 'home'>): PasswordFile[] {
  const named = env['PGPASSFILE'];
  if (named !== undefined && named !== '') {
    return [{ path: resolve(cwd, named), isCredential: false }];
  }
  const credentials = env['CREDENTIALS_DIRECTORY'];
  return [
    ...(credentials === undefined
      ? []
      : [{ path: join(credentials, 'pgpass'), isCredential: true }]),
    { path: join(home, '.pgpass'), isCredential: false },
  ];
}

/**
 * The password of the node, else that of the first line of its files that fits. The files are read for
 * each connection, so that another password counts from then on. Lines are
 * `host:port:database:user:password`; `*` fits anything, a backslash escapes `:` and itself, and a
 * unix socket counts as `localhost`. As libpq does, a file that others may read is ignored.
 * `database` is the literal `replication` for a physical walsender only, so never here.
 */
export async function passwordOf(node: NodeConfig): Promise<string | undefined> {
  if (node.password !== undefined) return node.password;
  for (const file of node.passwordFiles ?? []) {
    const password = await readPassword(file, node);
    if (password !== undefined) return password;
  }
  return undefined;
}

async function readPassword(
  { path, isCredential }: PasswordFile,
  node: NodeConfig,
): Promise<string | undefined> {
  try {
    const { mode } = await stat(path);
    if (!isCredential && (mode & 0o077) !== 0) return undefined;
    return findPassword(await readFile(path, 'utf8'), node);
  } catch {
    // No such file, or not ours to read: the server will ask, and that error names the remedy.
    return undefined;
  }
}

/** Pure part of passwordOf. */
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
