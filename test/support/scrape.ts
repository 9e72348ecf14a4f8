import assert from 'node:assert/strict';
import { request } from 'node:http';

export interface Scraped {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly text: string;
}

/** `Nan` is prom-client's; Prometheus reads numbers as Go does, whatever the case. */
const SAMPLE = /^([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (N[aA][nN]|[+-]Inf|[-+0-9.e]+)$/;
const LABEL = /([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/g;
const COMMENT =
  /^# (HELP [a-zA-Z_:][\w:]* .+|TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|histogram|summary))$/;

/** Prometheus' text format 0.0.4, strictly: a line that is not of it fails the test. */
export class Scrape {
  readonly types = new Map<string, string>();
  readonly samples: Scraped[] = [];

  constructor(text: string) {
    assert.ok(text.endsWith('\n'));
    const seen = new Set<string>();
    for (const line of text.split('\n').filter((one) => one !== '')) {
      if (line.startsWith('#')) {
        const [, , name, type] = COMMENT.exec(line) ?? assert.fail(`not a comment: ${line}`);
        if (name !== undefined && type !== undefined) this.types.set(name, type);
        continue;
      }
      const [, name = '', inner = '', value] =
        SAMPLE.exec(line) ?? assert.fail(`no sample: ${line}`);
      const labels = Object.fromEntries(
        Array.from(inner.matchAll(LABEL), ([, label = '', text_ = '']) => [label, unescape(text_)]),
      );
      assert.equal(inner.replace(LABEL, ''), '', `labels of ${line}`);
      const family = name.replace(/_(bucket|sum|count)$/, '');
      assert.ok(this.types.has(name) || this.types.has(family), `no TYPE before ${line}`);
      assert.ok(!seen.has(`${name}{${inner}}`), `twice: ${line}`);
      seen.add(`${name}{${inner}}`);
      this.samples.push({ name, labels, value: Number(value?.replace('Inf', 'Infinity')) });
    }
  }

  all(name: string): Scraped[] {
    return this.samples.filter((sample) => sample.name === name);
  }

  /** Of the one sample of this name that has these labels; undefined: there is none. */
  value(name: string, labels: Readonly<Record<string, string>> = {}): number | undefined {
    const found = this.all(name).filter((sample) =>
      Object.entries(labels).every(([label, text]) => sample.labels[label] === text),
    );
    assert.ok(found.length <= 1, `${found.length} series of ${name} ${JSON.stringify(labels)}`);
    return found[0]?.value;
  }
}

function unescape(text: string): string {
  return text.replace(/\\(.)/g, (_, one: string) => (one === 'n' ? '\n' : one));
}

/** At a unix socket or a port. */
export async function get(
  where: { readonly socketPath: string } | { readonly host: string; readonly port: number },
  path = '/metrics',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ ...where, path, timeout: 10_000, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          contentType: response.headers['content-type'] ?? '',
          text,
        }),
      );
    });
    sent.on('timeout', () => sent.destroy(new Error('no answer in 10 s')));
    sent.on('error', reject);
    sent.end();
  });
}
