import assert from 'node:assert/strict';

/** A value as the page has it: what is no exact JSON number stands as a text in brackets. */
export type PageValue = string | number | boolean | null | readonly [string];
export type PageRow = readonly (PageValue[] | null)[];

export interface PageHead {
  readonly chunkRows: number;
  readonly pairs: readonly {
    readonly name: string;
    readonly rows: number;
    readonly isCut: boolean;
  }[];
}

/** What the page's script elements of JSON hold, as a browser cuts them out. */
export function pageData(page: string): { head: PageHead; rows: PageRow[][] } {
  const found = [
    ...page.matchAll(/<script type="application\/json" id="(\S+)">([^]*?)<\/script>/g),
  ];
  const texts = new Map(found.map(([, id = '', text = '']) => [id, text]));
  const head = JSON.parse(texts.get('head') ?? '') as PageHead;
  const rows = head.pairs.map(({ rows: count }, pair) => {
    const list: PageRow[] = [];
    for (let number = 0; list.length < count; number += 1) {
      const text = texts.get(`c${pair}-${number}`);
      assert.ok(text !== undefined, `no chunk ${pair}-${number}`);
      list.push(...(JSON.parse(text) as PageRow[]));
    }
    return list;
  });
  return { head, rows };
}

/** A diff file of the pair n1/n2 with these rows, JSON texts. */
export function diffFileText({ n1, n2 }: { n1: string[]; n2: string[] }): string {
  const list = (rows: string[]): string => `[${rows.join(',\n')}]`;
  const summary = {
    ...{ schema: 'public', table: 'things', nodes: ['n1', 'n2'], primary_key: ['id'] },
    aced: { verdict: 'drift', warnings: [], positions: {} },
  };
  return `{"diffs": {"n1/n2": {"rows": {"n1": ${list(n1)}, "n2": ${list(n2)}}}}, "summary": ${JSON.stringify(summary)}}`;
}

/** So many keys; every tenth is missing on n1, every eleventh (of the others) on n2. */
export function bigDiffFile(keys: number): string {
  const n1: string[] = [];
  const n2: string[] = [];
  for (let id = 1; id <= keys; id += 1) {
    const row = (name: string, v: number): string =>
      `{"id": ${id}, "email": "user${id}@example.com", "name": "${name} ${id}", "note": null, "v": ${v}}`;
    if (id % 10 !== 0) n1.push(row('The first name of customer', id));
    if (id % 10 === 0 || id % 11 !== 0) n2.push(row('The second name of customer', id));
  }
  return diffFileText({ n1, n2 });
}
