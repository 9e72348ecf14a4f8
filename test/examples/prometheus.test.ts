import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';
import { parse } from 'yaml';
import { METRICS, type MetricSpec } from '../../src/observe/metric-names.js';

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

// Tests run from the root of the checkout.
const read = (name: string): unknown =>
  parse(readFileSync(`examples/prometheus/${name}`, 'utf8')) as unknown;

describe('examples for Prometheus', () => {
  const { groups } = read('alerts.yml') as { groups: { rules: Rule[] }[] };
  const rules = groups.flatMap((group) => group.rules);
  const specs = new Map<string, MetricSpec>(Object.values(METRICS).map((one) => [one.name, one]));

  it('use metrics and labels that there are', () => {
    assert.ok(rules.length >= 7);
    let used = 0;
    for (const { alert, expr } of rules) {
      for (const [, name = '', matchers = ''] of expr.matchAll(/(aced_\w+)(?:\{([^}]*)\})?/g)) {
        used++;
        const spec = specs.get(name) ?? assert.fail(`${alert}: there is no ${name}`);
        for (const [, label = ''] of matchers.matchAll(/(\w+)\s*=/g)) {
          assert.ok(spec.labels.includes(label), `${alert}: ${name} has no label ${label}`);
        }
      }
    }
    assert.ok(used >= 7, String(used));
  });

  it('say how bad it is, and what to do in a section of the runbook', () => {
    const runbook = readFileSync('docs/12-operations.md', 'utf8');
    for (const { alert, labels, annotations } of rules) {
      assert.match(labels['severity'] ?? '', /^(warning|critical)$/);
      assert.ok((annotations['summary'] ?? '') !== '' && (annotations['description'] ?? '') !== '');
      const [, anchor] = (annotations['runbook_url'] ?? '').split('#');
      assert.equal(anchor, alert.toLowerCase());
      assert.ok(runbook.includes(`\n### ${alert}\n`), alert);
    }
  });

  it('inhibit alerts that there are', () => {
    const { inhibit_rules: inhibited } = read('alertmanager-inhibit.yml') as {
      inhibit_rules: { source_matchers: string[]; target_matchers: string[]; equal: string[] }[];
    };
    const names = rules.map(({ alert }) => alert);
    for (const { source_matchers, target_matchers, equal } of inhibited) {
      assert.deepEqual(equal, ['cluster']);
      for (const matcher of [...source_matchers, ...target_matchers]) {
        const pattern = /^alertname(?:=|=~|!=)"(.*)"$/.exec(matcher)?.[1] ?? assert.fail(matcher);
        assert.ok(
          names.some((name) => new RegExp(`^(?:${pattern})$`).test(name)),
          matcher,
        );
      }
    }
  });
});
