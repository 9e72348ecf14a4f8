import type { IncidentState } from '../protocol/drift.js';
import type { BlockMap, TopTable } from '../protocol/top.js';
import { clip, fit, printable, widthOf } from './cell-text.js';
import { bytes, span } from './outcome-lines.js';
import type { Reading, TopHistory } from './top-history.js';

export interface TopView {
  readonly reading: Reading;
  readonly history: Pick<TopHistory, 'pace'>;
  /** Its label; null: the worst one. */
  readonly selected: string | null;
  readonly columns: number;
  /** Infinity: as many as it takes. */
  readonly rows: number;
  /** Stands in the place of the problems, e.g. that nobody answers. */
  readonly notice: string | null;
  /** Shows the keys. */
  readonly isLive: boolean;
}

export interface Frame {
  readonly lines: readonly Line[];
  /** Tables that a page shows. */
  readonly pageRows: number;
}

export type Style = 'red' | 'yellow' | 'green' | 'dim' | 'bold' | 'reverse';

/** Parts of a line that look alike; no longer than the frame is wide. */
export type Line = readonly { readonly text: string; readonly style?: Style }[];

/** With the empty one below. */
const HEADER_ROWS = 4;
const MIN_TABLE_ROWS = 4;
/** An in-flight table is shown before those that match when it has been for so long. */
const LONG_IN_FLIGHT_MS = 5_000;
const MIN_NAME_COLUMNS = 16;
const MIN_NAME_SHARE = 1 / 3;
/** Columns before the ranges of blocks: the node's name. */
const MAP_NAME_COLUMNS = 10;

const RANKS = ['drift', 'schema_mismatch', 'starved', 'unverified', 'never', 'in_flight', 'match'];
const VERDICT_STYLES: Readonly<Record<string, Style>> = {
  drift: 'red',
  schema_mismatch: 'yellow',
  starved: 'yellow',
  unverified: 'yellow',
  match: 'green',
};

/** Worst first; those that are alike by name, so that they stay where they are. */
export function worstFirst({ atMs, result: { tables } }: Reading): TopTable[] {
  const rank = ({ verdict, sinceMs }: TopTable): number => {
    const isBrief = verdict === 'in_flight' && atMs - (sinceMs ?? atMs) < LONG_IN_FLIGHT_MS;
    return RANKS.indexOf(isBrief ? 'match' : (verdict ?? 'never'));
  };
  return [...tables].sort(
    (one, other) =>
      rank(one) - rank(other) || (one.table < other.table ? -1 : one.table > other.table ? 1 : 0),
  );
}

/** Ranges of blocks that a screen of this width has room for. */
export function mapCells(columns: number): number {
  return Math.max(1, columns - MAP_NAME_COLUMNS - 2);
}

/** One screen. Pure. */
export function renderTop(view: TopView): Frame {
  const { reading, rows, columns } = view;
  const { result } = reading;
  const tables = worstFirst(reading);
  const chosen = Math.max(
    0,
    tables.findIndex(({ table }) => table === view.selected),
  );
  let left = rows - HEADER_ROWS - (view.isLive ? 1 : 0) - (MIN_TABLE_ROWS + 1);
  const nodes = nodeLines(view, left);
  left -= nodes.length + 1;
  const incidents = incidentLines(result.incidents, view);
  const shownIncidents = incidents.length > 0 && left > incidents.length ? incidents : [];
  left -= shownIncidents.length === 0 ? 0 : shownIncidents.length + 1;
  const map = mapLines(view, tables[chosen]);
  const shownMap = left > map.length ? map : [];
  left -= shownMap.length === 0 ? 0 : shownMap.length + 1;
  const pageRows = Math.max(1, Math.min(tables.length, MIN_TABLE_ROWS + Math.max(0, left)));
  const sections = [
    nodes,
    tableLines(view, { tables, chosen, pageRows }),
    shownIncidents,
    shownMap,
  ].filter((section) => section.length > 0);
  const body = [...headerLines(view), [], ...sections.flatMap((section) => [...section, []])];
  const keys = view.isLive ? [keyLine(chosen, tables.length)] : [];
  // Too low a screen keeps its first lines, and the keys.
  const kept = body.slice(0, Math.max(1, Math.min(rows, 10_000_000) - keys.length));
  const padding = new Array<Line>(
    Number.isFinite(rows) ? Math.max(0, rows - kept.length - keys.length) : 0,
  ).fill([]);
  const lines = [...kept, ...(view.isLive ? padding : []), ...keys].slice(0, rows);
  return { lines: lines.map((line) => clipLine(line, columns)), pageRows };
}

/** With the escape sequences of a terminal, or without. */
export function paint(lines: readonly Line[], hasColour: boolean): string[] {
  return lines.map((line) =>
    line
      .map(({ text, style }) =>
        !hasColour || style === undefined || text === ''
          ? text
          : `\u001b[${SGR[style]}m${text}\u001b[0m`,
      )
      .join('')
      .trimEnd(),
  );
}

const SGR: Readonly<Record<Style, number>> = {
  bold: 1,
  dim: 2,
  reverse: 7,
  red: 31,
  green: 32,
  yellow: 33,
};

function clipLine(line: Line, columns: number): Line {
  let left = columns;
  const kept: { text: string; style?: Style }[] = [];
  for (const part of line) {
    const text = clip(part.text, left);
    left -= widthOf(text);
    kept.push({ ...part, text });
    if (text !== part.text) break;
  }
  return kept;
}

function headerLines({ reading: { atMs, result }, columns, notice }: TopView): Line[] {
  const { cluster, version, pid, uptimeSeconds, tables, incidents, problems } = result;
  const who = `${printable(cluster)}: aced ${version}, pid ${pid}, up ${uptimeSeconds} s`;
  const time = new Date(atMs).toISOString().slice(11, 19);
  const counts = new Map<string, number>();
  for (const { verdict } of tables) {
    const name = verdict ?? 'never compared';
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const verdicts = [...RANKS, 'never compared'].flatMap((name) => {
    const count = counts.get(name);
    return count === undefined ? [] : [`${count} ${name}`];
  });
  const summary = [
    `${numberOf(tables.length, 'table')}${verdicts.length === 0 ? '' : `: ${verdicts.join(', ')}`}`,
    numberOf(incidents.length, 'incident'),
  ].join('; ');
  const [first, ...others] = problems;
  const more = others.length === 0 ? '' : ` (and ${others.length} more: acectl status)`;
  const problem = first === undefined ? null : printable(`${first.subject}: ${first.message}`);
  return [
    [
      { text: fit(who, Math.max(0, columns - time.length - 1)), style: 'bold' },
      { text: ` ${time}` },
    ],
    [{ text: summary }],
    notice !== null
      ? [{ text: printable(notice), style: 'red' }]
      : problem === null
        ? [{ text: 'no problems', style: 'green' }]
        : [
            { text: clip(problem, Math.max(10, columns - widthOf(more))), style: 'yellow' },
            { text: more },
          ],
  ];
}

interface Column {
  readonly head: string;
  readonly cells: readonly string[];
  readonly isRight?: boolean;
  readonly style?: (row: number) => Style | undefined;
}

/** The first column takes what room there is; of the others those go first that stand last. */
function columnsSideBySide(
  columns: readonly Column[],
  width: number,
  chosen: number | null = null,
): Line[] {
  const [first, ...others] = columns;
  if (first === undefined) return [];
  const widthOfColumn = ({ head, cells }: Column): number =>
    Math.max(widthOf(head), ...cells.map(widthOf));
  const wanted = widthOfColumn(first);
  const shown = [...others];
  const widths = shown.map(widthOfColumn);
  const room = (): number => width - widths.reduce((sum, one) => sum + one + 2, 0);
  const least = Math.min(wanted, MIN_NAME_COLUMNS, Math.floor(width * MIN_NAME_SHARE));
  while (shown.length > 0 && room() < least) {
    shown.pop();
    widths.pop();
  }
  const firstWidth = Math.max(0, Math.min(wanted, room()));
  const line = (row: number | null): Line => [
    {
      text: fit(row === null ? first.head : (first.cells[row] ?? ''), firstWidth),
      ...(row === null
        ? { style: 'dim' as const }
        : row === chosen
          ? { style: 'reverse' as const }
          : {}),
    },
    ...shown.map(({ head, cells, isRight = false, style }, i) => {
      const look = row === null ? ('dim' as const) : style?.(row);
      return {
        text: `  ${fit(row === null ? head : (cells[row] ?? ''), widths[i] ?? 0, isRight)}`,
        ...(look === undefined ? {} : { style: look }),
      };
    }),
  ];
  return [line(null), ...first.cells.map((_, row) => line(row))];
}

function nodeLines({ reading, history, columns }: TopView, room: number): Line[] {
  const all = [...reading.result.nodes].sort(
    (one, other) => Number(one.state === 'streaming') - Number(other.state === 'streaming'),
  );
  const most = Math.max(3, Math.floor(room / 2) - 1);
  const nodes = all.length > most ? all.slice(0, most - 1) : all;
  const paces = nodes.map(({ name, positionBytes }) => history.pace(name, positionBytes));
  const lines = columnsSideBySide(
    [
      { head: 'NODE', cells: nodes.map(({ name }) => printable(name)) },
      {
        head: 'STATE',
        cells: nodes.map(({ state }) => state),
        style: (row) => (nodes[row]?.state === 'streaming' ? 'green' : 'yellow'),
      },
      {
        head: 'LAG',
        isRight: true,
        cells: nodes.map(({ lagBytes }) => (lagBytes === null ? '-' : bytes(lagBytes))),
      },
      {
        head: 'BEHIND',
        isRight: true,
        cells: paces.map(({ lagMs, isLagLonger }) =>
          lagMs === null ? '-' : `${isLagLonger ? '>' : ''}${(lagMs / 1000).toFixed(1)} s`,
        ),
      },
      {
        head: 'CHANGES/S',
        isRight: true,
        cells: paces.map(({ changesPerSecond }) =>
          changesPerSecond === null ? '-' : changesPerSecond.toFixed(0),
        ),
      },
      {
        head: 'LOG/S',
        isRight: true,
        cells: paces.map(({ walBytesPerSecond }) =>
          walBytesPerSecond === null ? '-' : bytes(walBytesPerSecond),
        ),
      },
      {
        head: 'HELD',
        isRight: true,
        cells: nodes.map(({ heldBytes }) => (heldBytes === null ? '-' : bytes(heldBytes))),
      },
    ],
    columns,
  );
  const hidden = all.length - nodes.length;
  return hidden === 0 ? lines : [...lines, [{ text: `and ${hidden} more`, style: 'dim' }]];
}

function tableLines(
  { columns, reading: { atMs } }: TopView,
  page: {
    readonly tables: readonly TopTable[];
    readonly chosen: number;
    readonly pageRows: number;
  },
): Line[] {
  const { tables, chosen, pageRows } = page;
  if (tables.length === 0) return [[{ text: 'No table is followed' }]];
  const from = Math.floor(chosen / pageRows) * pageRows;
  const shown = tables.slice(from, from + pageRows);
  return columnsSideBySide(
    [
      { head: 'TABLE', cells: shown.map(({ table }) => printable(table)) },
      {
        head: 'VERDICT',
        cells: shown.map(({ verdict }) => verdict ?? 'never'),
        style: (row) => VERDICT_STYLES[shown[row]?.verdict ?? ''],
      },
      {
        head: 'SINCE',
        isRight: true,
        cells: shown.map(({ sinceMs }) => (sinceMs === null ? '-' : span(atMs - sinceMs))),
      },
      { head: 'OPEN', isRight: true, cells: shown.map(({ openRows }) => String(openRows)) },
      { head: 'DIRTY', isRight: true, cells: shown.map(({ dirtyBlocks }) => String(dirtyBlocks)) },
      { head: 'BLOCKS', isRight: true, cells: shown.map(({ blocks }) => String(blocks)) },
      { head: 'TREE', cells: shown.map(({ state }) => state ?? 'none') },
    ],
    columns,
    chosen - from,
  );
}

function incidentLines(
  incidents: readonly IncidentState[],
  { reading: { atMs }, columns, rows }: TopView,
): Line[] {
  const most = Math.max(3, Math.floor(rows / 6));
  if (incidents.length === 0) return [];
  const newest = [...incidents].sort((one, other) => other.openedAtMs - one.openedAtMs);
  const shown = newest.slice(0, newest.length > most - 1 ? most - 2 : most - 1);
  const lines = columnsSideBySide(
    [
      { head: 'INCIDENT OF', cells: shown.map(({ table }) => printable(table)) },
      { head: 'ROWS', isRight: true, cells: shown.map(({ rows }) => String(rows)) },
      { head: 'KIND', cells: shown.map(({ kind }) => kind) },
      {
        head: 'OPEN FOR',
        isRight: true,
        cells: shown.map(({ openedAtMs }) => span(atMs - openedAtMs)),
      },
      { head: 'ID', cells: shown.map(({ id }) => id.slice(0, 8)) },
      { head: 'CAUSE', cells: shown.map(({ certificate }) => certificate.cause) },
      {
        head: 'AGREE',
        cells: shown.map(({ agreement }) =>
          printable(agreement.map((group) => group.join(' ')).join(' | ')),
        ),
      },
    ],
    columns,
  );
  const hidden = newest.length - shown.length;
  return hidden === 0
    ? lines
    : [...lines, [{ text: `and ${hidden} more: acectl drift list`, style: 'dim' }]];
}

/** By how long ago a range was read from its table last. */
const AGES: readonly { readonly upToMs: number; readonly sign: string }[] = [
  { upToMs: 3_600_000, sign: '.' },
  { upToMs: 86_400_000, sign: ':' },
  { upToMs: 7 * 86_400_000, sign: '+' },
  { upToMs: Infinity, sign: '#' },
];
const LEGEND = 'X differ  d dirty  ~ stale  ? unread  read within . 1h  : 1d  + 7d  # longer';

function mapLines({ reading: { atMs, result } }: TopView, table?: TopTable): Line[] {
  if (table === undefined) return [];
  const title = `Blocks of ${printable(table.table)}`;
  const reason = table.reason === null ? '' : `; ${printable(table.reason)}`;
  const { map } = result;
  if (map?.table !== table.table) {
    const what = table.state === null ? ': it has no tree' : '';
    return [[{ text: `${title}${what}${reason}` }]];
  }
  const cells = map.differing.length;
  const folded = cells < map.blocks ? `, ${Math.ceil(map.blocks / cells)} in a place` : '';
  const isStale = table.state === 'stale' || table.state === 'failed';
  return [
    [{ text: `${title}: ${map.blocks}${folded}${reason}` }],
    ...Object.keys(map.nodes).map((node): Line => [
      { text: `${fit(printable(node), MAP_NAME_COLUMNS)}  ` },
      ...mapParts(map, node, { isStale, atMs }),
    ]),
    [{ text: LEGEND, style: 'dim' }],
  ];
}

function mapParts(
  map: BlockMap,
  node: string,
  { isStale, atMs }: { readonly isStale: boolean; readonly atMs: number },
): { text: string; style?: Style }[] {
  const { dirty = [], oldestProofMs = [] } = map.nodes[node] ?? {};
  const signs = map.differing.map((differing, cell) => {
    if (differing > 0) return 'X';
    if (isStale) return '~';
    if ((dirty[cell] ?? 0) > 0) return 'd';
    const provedMs = oldestProofMs[cell] ?? 0;
    if (provedMs === 0) return '?';
    return AGES.find(({ upToMs }) => atMs - provedMs < upToMs)?.sign ?? '#';
  });
  const styleOf = (sign: string): Style | undefined =>
    sign === 'X' ? 'red' : 'd~?'.includes(sign) ? 'yellow' : sign === '.' ? 'green' : undefined;
  const parts: { text: string; style?: Style }[] = [];
  for (const sign of signs) {
    const last = parts.at(-1);
    const style = styleOf(sign);
    if (last?.style === style && last !== undefined) last.text += sign;
    else parts.push({ text: sign, ...(style === undefined ? {} : { style }) });
  }
  return parts;
}

function keyLine(chosen: number, tables: number): Line {
  const place = tables === 0 ? '' : `   table ${chosen + 1} of ${tables}`;
  return [{ text: `q quit   up/down, PgUp/PgDn, Home/End choose${place}`, style: 'dim' }];
}

function numberOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
