import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { METRICS, type MetricSpec } from '../../src/observe/metric-names.js';
import { validateEvent } from '../drift/event-schema.js';

// Tests run from the root of the checkout.
const read = (path: string): string => readFileSync(path, 'utf8');
const example = (path: string): unknown => parse(read(`examples/${path}`)) as unknown;

interface Schema {
  readonly $defs: Readonly<Record<string, { readonly properties?: object }>>;
}

const { $defs } = JSON.parse(read('docs/drift-event.schema.json')) as Schema;
const FIELDS = new Set(
  Object.values($defs).flatMap(({ properties = {} }) => Object.keys(properties)),
);
const INCIDENT_FIELDS = Object.keys($defs['incident']?.properties ?? {});

function requireFields(names: Iterable<string>, where: string): void {
  const used = new Set(names);
  assert.ok(used.size > 0, `${where} names no field`);
  for (const name of used) assert.ok(FIELDS.has(name), `${where}: no event has a field ${name}`);
}

const all = (text: string, pattern: RegExp): string[] =>
  Array.from(text.matchAll(pattern), ([, name = '']) => name);

interface VectorConfig {
  readonly sources?: Readonly<Record<string, { readonly type: string }>>;
  readonly transforms?: Readonly<
    Record<
      string,
      { readonly inputs: string[]; readonly source?: string; readonly fields?: { match: string[] } }
    >
  >;
  readonly sinks: Readonly<
    Record<string, { readonly inputs: string[]; readonly key_field?: string }>
  >;
  readonly tests?: readonly {
    readonly inputs: readonly { insert_at: string; log_fields: { message: string } }[];
    readonly outputs?: readonly { extract_from: string }[];
  }[];
}

describe('the example for Vector', () => {
  const main = example('vector/aced.yaml') as VectorConfig;
  const { sources = {}, transforms = {}, tests = [] } = main;
  /** What the mapping adds to an event. */
  const ADDED = ['event_key', 'timestamp', 'message'];

  it('has inputs that there are, also in the files beside it', () => {
    const names = new Set([...Object.keys(sources), ...Object.keys(transforms)]);
    for (const file of ['aced', 'to-clickhouse', 'to-kafka', 'to-nats']) {
      const { sinks } = example(`vector/${file}.yaml`) as VectorConfig;
      for (const { inputs } of [...Object.values(sinks), ...Object.values(transforms)]) {
        for (const input of inputs) assert.ok(names.has(input), `${file}: ${input}`);
      }
    }
  });

  it('names fields that events have', () => {
    const programs = [transforms['events']?.source ?? '', transforms['alerts']?.source ?? ''];
    const paths = programs.flatMap((program) => all(program, /(?<![\w)"])\.([a-zA-Z_]\w*)/g));
    requireFields(
      [...paths, ...all(programs.join(), /fields\.(\w+)/g)].filter((path) => !ADDED.includes(path)),
      'vector/aced.yaml',
    );
    for (const field of transforms['once']?.fields?.match ?? []) assert.ok(ADDED.includes(field));
    const { sinks } = example('vector/to-kafka.yaml') as VectorConfig;
    requireFields([sinks['kafka']?.key_field ?? ''], 'vector/to-kafka.yaml');
    requireFields(all(read('examples/vector/to-nats.yaml'), /\{\{ (\w+) \}\}/g), 'to-nats.yaml');
  });

  it('tests itself with events as aced has them', () => {
    let events = 0;
    for (const { inputs, outputs = [] } of tests) {
      for (const { insert_at, log_fields } of inputs) {
        assert.ok(insert_at in transforms);
        const event = JSON.parse(log_fields.message) as { schema?: number };
        if (event.schema === undefined) continue;
        events++;
        assert.ok(validateEvent(event), JSON.stringify(validateEvent.errors));
      }
      for (const { extract_from } of outputs) assert.ok(extract_from in transforms);
    }
    assert.equal(events, 3);
  });
});

describe('the example for Fluent Bit', () => {
  const text = read('examples/fluent-bit/fluent-bit.yaml');
  const config = parse(text) as {
    readonly parsers: readonly { name: string; time_key: string }[];
    readonly pipeline: Readonly<
      Record<'inputs' | 'filters' | 'outputs', readonly Readonly<Record<string, string>>[]>
    >;
  };

  it('uses a parser that it has, on the tag that it gives', () => {
    const { inputs, filters, outputs } = config.pipeline;
    const parsers = config.parsers.map(({ name }) => name);
    for (const { parser } of filters) assert.ok(parser === undefined || parsers.includes(parser));
    const tags = inputs.map(({ tag }) => tag);
    for (const { match } of [...filters, ...outputs]) assert.ok(tags.includes(match));
  });

  it('names fields that events have', () => {
    requireFields([...all(text, /\$(\w+)/g), 'schema', config.parsers[0]?.time_key ?? ''], 'it');
    const [loki] = config.pipeline.outputs;
    assert.deepEqual(all(loki?.['label_keys'] ?? '', /\$(\w+)/g), ['cluster', 'event', 'level']);
  });
});

describe('the example for Grafana Alloy', () => {
  const text = read('examples/alloy/aced.alloy').replace(/\/\/.*$/gm, '');
  const block = (name: string): string[] => {
    const body = new RegExp(`stage\\.${name} \\{\\s+(?:values|expressions) = \\{([^}]*)\\}`).exec(
      text,
    );
    return all(body?.[1] ?? '', /^\s+(\w+)\s+=/gm);
  };

  it('is whole, and every component that it names is there', () => {
    let depth = 0;
    for (const sign of text) {
      if (sign === '{') depth++;
      if (sign === '}') depth--;
      assert.ok(depth >= 0);
    }
    assert.equal(depth, 0);
    const defined = Array.from(
      text.matchAll(/^([a-z.]+) "(\w+)" \{/gm),
      ([, type, name]) => `${type}.${name}`,
    );
    assert.equal(defined.length, 3);
    for (const target of all(text, /forward_to = \[([a-z._]+)\.receiver\]/g)) {
      assert.ok(defined.includes(target), target);
    }
  });

  it('names fields that events have; labels are those of the docs', () => {
    requireFields(block('json'), 'stage.json');
    assert.deepEqual(block('labels'), ['cluster', 'event', 'level']);
    for (const name of [...block('labels'), ...block('structured_metadata')]) {
      assert.ok(block('json').includes(name), `${name} is not taken out of the line`);
    }
  });
});

describe('the example for the OpenTelemetry Collector', () => {
  const config = example('otel-collector/config.yaml') as {
    readonly receivers: object;
    readonly processors: { transform: { log_statements: string[] } };
    readonly exporters: object;
    readonly service: { pipelines: { logs: Readonly<Record<string, string[]>> } };
  };
  const statements = config.processors.transform.log_statements;
  const set = new Map(
    statements.flatMap((one) => {
      const [, name, from] =
        /^set\(log\.attributes\["([^"]+)"\], log\.attributes\["([^"]+)"\]\)/.exec(one) ?? [];
      return name === undefined || from === undefined ? [] : [[from, name] as const];
    }),
  );

  it('has the components that its pipeline names', () => {
    for (const kind of ['receivers', 'processors', 'exporters'] as const) {
      const names = config.service.pipelines.logs[kind] ?? [];
      assert.ok(names.length > 0 && names.every((name) => name in config[kind]), kind);
    }
  });

  it('names fields that events have, and maps them as the docs say', () => {
    const left = statements.find((one) => one.startsWith('delete_matching_keys')) ?? '';
    requireFields([...set.keys(), ...(/\^\(([^)]*)\)\$/.exec(left)?.[1] ?? '').split('|')], 'it');
    const rows = read('docs/14-drift.md')
      .split('\n')
      .flatMap((line) => {
        const cells = line.split('|').map((cell) => cell.trim());
        return cells.length === 6 ? [cells.slice(1, 3)] : [];
      });
    for (const [ours, theirs] of [
      ['incident', 'aced.incident.id'],
      ['table', 'db.collection.name'],
      ['cluster', 'aced.cluster'],
      ['database', 'db.namespace'],
    ] as const) {
      assert.equal(set.get(ours), theirs);
      assert.ok(
        rows.some(([a, b]) => a === `\`${ours}\`` && b === `\`${theirs}\``),
        `the map in docs/14-drift.md has ${ours}`,
      );
    }
  });
});

describe('the table for ClickHouse', () => {
  it('has a column for each field of an incident, and no others than events have', () => {
    const [, body = ''] =
      /CREATE TABLE[^(]*\(\n(.*?)\n\) ENGINE/s.exec(read('examples/clickhouse/events.sql')) ?? [];
    const columns = all(body, /^ {2}(\w+) /gm).filter((name) => name !== 'event_key');
    requireFields(columns, 'events.sql');
    // What no event has unless asked for, what says how it was cut, and what is the same in all.
    const without = new Set(['schema', 'severityNumber', 'keys', 'truncated']);
    for (const field of INCIDENT_FIELDS) {
      assert.ok(columns.includes(field) || without.has(field), `no column for ${field}`);
    }
  });
});

describe('the dashboard for Grafana', () => {
  interface Panel {
    readonly id: number;
    readonly title: string;
    readonly gridPos: { x: number; y: number; w: number; h: number };
    readonly targets: readonly { readonly expr: string }[];
  }
  const { panels } = JSON.parse(read('examples/grafana/aced.json')) as { panels: Panel[] };
  const specs = new Map<string, MetricSpec>(Object.values(METRICS).map((one) => [one.name, one]));
  /** Of prom-client, or of Prometheus. */
  const FOREIGN = new Set([
    'process_cpu_seconds_total',
    'process_resident_memory_bytes',
    'nodejs_eventloop_lag_p99_seconds',
  ]);

  it('shows metrics that there are, by labels that they have', () => {
    let used = 0;
    for (const { title, targets } of panels) {
      assert.ok(targets.length > 0, title);
      for (const { expr } of targets) {
        const names = all(expr, /\b((?:aced|process|nodejs)_\w+)\b/g);
        assert.ok(names.length > 0, title);
        used += names.length;
        const labels = all(expr, /(?:by) \(([^)]*)\)/g).flatMap((list) => list.split(/, ?/));
        for (const name of names.filter((one) => !FOREIGN.has(one))) {
          const spec = specs.get(name.replace(/_bucket$/, '')) ?? assert.fail(`${title}: ${name}`);
          const known = new Set([...spec.labels, 'cluster', 'le']);
          for (const label of [...labels, ...all(expr, /(\w+)=~/g)]) {
            assert.ok(known.has(label), `${title}: ${name} has no label ${label}`);
          }
        }
      }
    }
    assert.ok(used > 20);
  });

  it('has panels that lie beside each other', () => {
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
    for (const { gridPos: a, id } of panels) {
      assert.ok(a.x >= 0 && a.x + a.w <= 24);
      for (const { gridPos: b, id: other } of panels) {
        const isApart =
          a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
        assert.ok(id === other || isApart, `${id} and ${other}`);
      }
    }
  });
});
