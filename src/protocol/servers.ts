/** Where a node is, for a person and for comparing two definitions of a cluster. No secrets. */
export interface ServerAddress {
  /** Host name, IP address, or the directory of a unix socket. */
  readonly host: string;
  readonly port: number;
  readonly database: string;
}

export function isServerAddress(value: unknown): value is ServerAddress {
  if (typeof value !== 'object' || value === null) return false;
  const { host, port, database } = value as Readonly<Record<string, unknown>>;
  return typeof host === 'string' && typeof database === 'string' && Number.isInteger(port);
}

/** Node -> its server, as one definition of a cluster has it. */
export type Servers = Readonly<Record<string, ServerAddress>>;

/** Of a configuration's nodes, without what only the client needs: user, password, TLS. */
export function serversOf(
  nodes: readonly (ServerAddress & { readonly name: string })[],
): Record<string, ServerAddress> {
  return Object.fromEntries(
    nodes.map(({ name, host, port, database }) => [name, { host, port, database }]),
  );
}

/**
 * Whether both definitions name the same servers, in whatever order. A host name and its IP address
 * are two spellings that cannot be told from two servers without asking the network, which answers
 * one thing today and another tomorrow: they count as different.
 */
export function sameServers(a: Servers, b: Servers): boolean {
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length && names.every((name) => sameAddress(a[name], b[name]))
  );
}

export function sameAddress(a: ServerAddress | undefined, b: ServerAddress | undefined): boolean {
  if (a === undefined || b === undefined) return false;
  return spelled(a.host) === spelled(b.host) && a.port === b.port && a.database === b.database;
}

/** `app at db1.example.com:5432` */
export function describeServer({ host, port, database }: ServerAddress): string {
  const shown = host.includes(':') ? `[${host}]` : host;
  return `${database} at ${shown}:${port}`;
}

/** `n1 = app at db1:5432, n2 = app at db2:5432` */
export function describeServers(servers: Servers): string {
  return Object.entries(servers)
    .map(([name, server]) => `${name} = ${describeServer(server)}`)
    .join(', ');
}

/** DNS names ignore case and may end in a dot; a directory may end in a slash. */
function spelled(host: string): string {
  if (host.startsWith('/')) return host.replace(/(?<=.)\/+$/, '');
  return host.toLowerCase().replace(/\.$/, '');
}
