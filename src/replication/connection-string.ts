import type { ServerAddress } from '../protocol/servers.js';

/**
 * The servers that a libpq connection string leads to, as far as it says so itself: host or address, port
 * and database. Both forms: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING
 */
export function serversOfConnection(text: string): ServerAddress[] {
  const settings = /^postgres(ql)?:\/\//.test(text) ? ofUri(text) : ofKeywords(text);
  const database = settings.get('dbname');
  if (database === undefined) return [];
  const ports = (settings.get('port') ?? '').split(',');
  return ['host', 'hostaddr'].flatMap((keyword) =>
    (settings.get(keyword) ?? '').split(',').flatMap((host, i) => {
      // One port stands for all hosts.
      const port = ports[i] ?? ports[0] ?? '';
      return host === '' ? [] : [{ host, port: port === '' ? 5432 : Number(port), database }];
    }),
  );
}

function ofKeywords(text: string): Map<string, string> {
  const settings = text.matchAll(/(\w+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s\\]|\\.)*))/g);
  return new Map(
    Array.from(settings, ([, keyword = '', quoted, plain = '']) => [
      keyword,
      (quoted ?? plain).replaceAll(/\\(.)/g, '$1'),
    ]),
  );
}

function ofUri(text: string): Map<string, string> {
  const match = /^\w+:\/\/(?:[^@/?]*@)?([^/?]*)(?:\/([^?]*))?(?:\?(.*))?$/.exec(text);
  const [, authority = '', path = '', query = ''] = match ?? [];
  const hosts = authority
    .split(',')
    .map((host) => /^(\[[^\]]*\]|[^:]*)(?::(\d*))?$/.exec(host) ?? []);
  const settings = new Map<string, string>([
    ['host', hosts.map(([, host = '']) => host.replaceAll(/[[\]]/g, '')).join(',')],
    ['port', hosts.map(([, , port = '']) => port).join(',')],
  ]);
  if (path !== '') settings.set('dbname', path);
  for (const [keyword, value] of new URLSearchParams(query)) settings.set(keyword, value);
  return new Map(Array.from(settings, ([keyword, value]) => [keyword, decoded(value)]));
}

function decoded(value: string): string {
  try {
    return decodeURIComponent(value);
  } catch {
    return value;
  }
}
