import { usage, type FlagValues } from './flags.js';

interface NodeEntry {
  readonly name: string;
  readonly host: string;
  readonly port: number;
}

const EXAMPLES: readonly NodeEntry[] = [
  { name: 'n1', host: 'db1.example.com', port: 5432 },
  { name: 'n2', host: 'db2.example.com', port: 5432 },
];
const HINT = 'Write --hosts n1=db1.example.com:5432,n2=10.0.0.2,n3=[::1]:5433.';

/** A file to be written. */
export interface NewFile {
  readonly path: string;
  readonly content: string;
}

/**
 * `cluster init`: a cluster definition from flags, or one to be filled in. Never a password: those
 * belong into the password file. Errors: BAD_USAGE.
 */
export function clusterFile(cluster: string | undefined, flags: FlagValues): NewFile {
  if (cluster === undefined || !/^[\p{L}\p{N}_-][\p{L}\p{N}_.-]*$/u.test(cluster)) {
    throw usage('cluster init needs a name for the cluster', 'Write acectl cluster init prod.');
  }
  const text = (flag: string): string | undefined => {
    const value = flags.get(flag);
    if (typeof value !== 'string') return undefined;
    if (/[\r\n]/.test(value)) throw usage(`--${flag} must be one line`, 'Leave line ends out.');
    return value;
  };
  const hosts = text('hosts');
  const definition = {
    nodes: hosts === undefined ? EXAMPLES : hosts.split(',').map(readNode),
    database: text('dbname') ?? 'app',
    user: text('user') ?? 'aced',
    sslMode: text('sslmode') ?? 'prefer',
  };
  const names = definition.nodes.map(({ name }) => name);
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw usage(`--hosts has two nodes called ${twice}`, HINT);
  return text('format') === 'json'
    ? { path: text('path') ?? `${cluster}.json`, content: jsonOf(cluster, definition) }
    : { path: text('path') ?? 'pg_service.conf', content: serviceOf(cluster, definition) };
}

interface Definition {
  readonly nodes: readonly NodeEntry[];
  readonly database: string;
  readonly user: string;
  readonly sslMode: string;
}

function readNode(entry: string): NodeEntry {
  const match = /^([\p{L}\p{N}_-]+)=(?:\[([0-9a-fA-F:.%]+)\]|([^\s:=[\]#;]+))(?::(\d+))?$/u.exec(
    entry.trim(),
  );
  const [, name, address, host, port = '5432'] = match ?? [];
  const found = address ?? host;
  if (name === undefined || found === undefined || Number(port) < 1 || Number(port) > 65_535) {
    throw usage(`--hosts: ${JSON.stringify(entry)} is not name=host:port`, HINT);
  }
  return { name, host: found, port: Number(port) };
}

function serviceOf(cluster: string, { nodes, database, user, sslMode }: Definition): string {
  const sections = nodes.map(
    ({ name, host, port }) => `\n[${cluster}.${name}]\nhost=${host}\nport=${port}\n`,
  );
  return `# The cluster ${cluster}: what its nodes share, then a section for each. Parameters are libpq's.
# Passwords belong into ~/.pgpass (mode 0600), a line a node: host:port:database:user:password
[${cluster}]
dbname=${database}
user=${user}
sslmode=${sslMode}
${sections.join('')}`;
}

/** pgEdge's form; it has no place for sslmode. */
function jsonOf(cluster: string, { nodes, database, user }: Definition): string {
  const groups = nodes.map(({ name, host, port }) => ({
    ...{ name, is_active: 'on', public_ip: host, private_ip: host, port: String(port) },
  }));
  const databases = [{ db_name: database, db_user: user }];
  const content = { cluster_name: cluster, pgedge: { databases }, node_groups: groups };
  return `${JSON.stringify(content, null, 2)}\n`;
}
