import { AcedError } from '../base/errors.js';

export interface ServiceSetting {
  readonly key: string;
  readonly value: string;
  /** 1 is the first line. */
  readonly line: number;
}

export interface ServiceSection {
  readonly name: string;
  readonly line: number;
  readonly settings: readonly ServiceSetting[];
  /** First line that is no `key=value`; of no interest in a section of somebody else's. */
  readonly malformedLine: number | null;
}

/**
 * Sections of a connection service file, in their order. As in libpq a `#` starts a comment only
 * at the beginning of a line, and nothing is unquoted: a value is everything after the first `=`,
 * without the blanks around it (https://www.postgresql.org/docs/current/libpq-pgservice.html).
 * Errors: BAD_CONFIG with file and line.
 */
export function parseServiceFile(content: string, file: string): ServiceSection[] {
  const sections: (Omit<ServiceSection, 'settings' | 'malformedLine'> & {
    settings: ServiceSetting[];
    malformedLine: number | null;
  })[] = [];
  for (const [index, raw] of content
    .replace(/^\uFEFF/, '')
    .split(/\r\n|\n|\r/)
    .entries()) {
    const line = index + 1;
    const trimmed = raw.trim();
    if (trimmed === '' || trimmed.startsWith('#')) continue;
    if (trimmed.startsWith('[')) {
      const name = /^\[([^\]]*)\]$/.exec(trimmed)?.[1]?.trim();
      if (name === undefined || name === '') throw malformed(file, line, 'a section is [name]');
      sections.push({ name, line, settings: [], malformedLine: null });
      continue;
    }
    const current = sections.at(-1);
    if (current === undefined) throw malformed(file, line, 'a setting before the first [section]');
    const equals = trimmed.indexOf('=');
    if (equals < 1) {
      current.malformedLine ??= line;
      continue;
    }
    const key = trimmed.slice(0, equals).trimEnd();
    current.settings.push({ key, value: trimmed.slice(equals + 1).trimStart(), line });
  }
  return sections;
}

export interface ServiceCluster {
  readonly shared: readonly ServiceSetting[];
  readonly nodes: readonly {
    readonly name: string;
    readonly settings: readonly ServiceSetting[];
  }[];
}

/**
 * `[cluster]` and its `[cluster.node]` sections; undefined when the file has no node of it.
 * Errors: BAD_CONFIG for a section that is there twice or has a malformed line.
 */
export function findServiceCluster(
  sections: readonly ServiceSection[],
  cluster: string,
  file: string,
): ServiceCluster | undefined {
  const prefix = `${cluster}.`;
  const isNode = ({ name }: ServiceSection): boolean =>
    name.startsWith(prefix) && !name.slice(prefix.length).includes('.');
  const ours = sections.filter((section) => section.name === cluster || isNode(section));
  const nodes = ours.filter(isNode);
  if (nodes.length === 0) return undefined;
  for (const section of ours) {
    // A malformed line is never quoted: it may hold a password.
    if (section.malformedLine !== null) {
      throw malformed(file, section.malformedLine, 'a setting is key=value');
    }
    const first = ours.find(({ name }) => name === section.name);
    if (first !== section && first !== undefined) {
      const what = `section [${section.name}] is there twice (also on line ${first.line})`;
      throw malformed(file, section.line, what);
    }
  }
  return {
    shared: ours.find(({ name }) => name === cluster)?.settings ?? [],
    nodes: nodes.map(({ name, settings }) => ({ name: name.slice(prefix.length), settings })),
  };
}

/** Clusters that the file defines: whatever has `[cluster.node]` sections. */
export function serviceClusters(sections: readonly ServiceSection[]): string[] {
  const names = sections.flatMap(({ name }) => {
    const dot = name.lastIndexOf('.');
    return dot < 1 ? [] : [name.slice(0, dot)];
  });
  return [...new Set(names)];
}

function malformed(file: string, line: number, what: string): AcedError {
  return new AcedError('BAD_CONFIG', `${file}, line ${line}: ${what}`, {
    hint: 'Comments stand on lines of their own and begin with #.',
  });
}
