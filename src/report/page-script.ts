/**
 * What runs in the page. Rows lie in inert script elements of JSON, so that a browser need not look at
 * them before they are shown: `#head`, then `#c<pair>-<chunk>`. A value is JSON's own where that is
 * exact, else `["text"]`: numbers beyond 2^53 keep their digits.
 *
 * Its own text has neither a backtick nor a dollar sign with a brace.
 */
export const PAGE_SCRIPT = String.raw`'use strict';
const head = JSON.parse(document.getElementById('head').textContent);
const $ = (id) => document.getElementById(id);
const PAGE = 100;
const state = { pair: 0, page: 0, at: 0, text: '', kind: '', column: '', all: false, shown: null };
const actions = head.pairs.map(() => new Map());
const cache = new Map();

function chunk(pair, number) {
  const id = 'c' + pair + '-' + number;
  if (cache.has(id)) return cache.get(id);
  const element = $(id);
  // The last one that there is may be half read.
  if (element === null || (document.readyState === 'loading' && element.nextSibling === null)) return null;
  const rows = JSON.parse(element.textContent);
  // Few are kept: a page may have a hundred thousand rows.
  if (cache.size > 40) cache.delete(cache.keys().next().value);
  cache.set(id, rows);
  return rows;
}
function rowAt(pair, index) {
  const rows = chunk(pair, Math.floor(index / head.chunkRows));
  return rows === null ? null : rows[index % head.chunkRows];
}
const literal = (value) => (Array.isArray(value) ? value[0] : JSON.stringify(value));
const plain = (value) => (value === null ? null : Array.isArray(value) ? value[0] : String(value));
const same = (a, b) => literal(a) === literal(b);
const kindOf = (row) => (row[0] === null ? 'first' : row[1] === null ? 'second' : 'both');
const keyOf = (pair, row) => pair.key.map((i) => (row[0] ?? row[1])[i]);
const keyText = (pair, row) => keyOf(pair, row).map(plain).join(', ');

function wanted(pair, row) {
  if (state.kind !== '' && kindOf(row) !== state.kind) return false;
  if (state.column !== '') {
    const i = Number(state.column);
    if (kindOf(row) !== 'both' || same(row[0][i], row[1][i])) return false;
  }
  if (state.text === '') return true;
  const text = state.text.toLowerCase();
  return row.some((side) => side !== null && side.some((value) =>
    value !== null && plain(value).toLowerCase().includes(text)));
}
const isFiltered = () => state.text !== '' || state.kind !== '' || state.column !== '';

let searching = 0;
/** Looks through all rows, a chunk at a time, so that the page stays alive. */
async function filter() {
  const run = ++searching;
  state.page = 0;
  state.at = 0;
  if (!isFiltered()) {
    state.shown = null;
    return show();
  }
  const pair = head.pairs[state.pair];
  const found = [];
  for (let from = 0; from < pair.rows; from += head.chunkRows) {
    const rows = chunk(state.pair, from / head.chunkRows) ?? [];
    rows.forEach((row, i) => { if (wanted(pair, row)) found.push(from + i); });
    if (from % (head.chunkRows * 10) === 0) {
      await new Promise((resolve) => setTimeout(resolve));
      if (run !== searching) return;
    }
  }
  state.shown = found;
  show();
}
const count = () => (state.shown === null ? head.pairs[state.pair].rows : state.shown.length);
const indexAt = (place) => (state.shown === null ? place : state.shown[place]);

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className !== undefined) made.className = className;
  return made;
}
/** The part of a value between what both have at the beginning and at the end is marked. */
function cell(value, other) {
  const td = element('td');
  if (value === null) {
    td.append(Object.assign(element('span', 'NULL', 'null'), { title: 'SQL NULL, no text' }));
    return td;
  }
  const text = plain(value);
  if (text === '') {
    td.append(Object.assign(element('span', 'empty text', 'none'), { title: 'a text of no characters' }));
    return td;
  }
  // A text that looks like our sign for NULL.
  const quote = text === 'NULL' || text === 'empty text' ? "'" : '';
  if (other === undefined || other === null || same(value, other)) {
    td.textContent = quote + text + quote;
    return td;
  }
  const a = Array.from(text);
  const b = Array.from(plain(other));
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start++;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a[a.length - 1 - end] === b[b.length - 1 - end]) end++;
  td.append(a.slice(0, start).join(''), element('mark', a.slice(start, a.length - end).join('')), a.slice(a.length - end).join(''));
  return td;
}
/** What ACE's plans can do with such a row; n1 and n2 are the pair's first and second node. */
function choices(pair, row) {
  const [one, two] = pair.nodes;
  const kind = kindOf(row);
  if (kind === 'both') return { keep_n1: 'take ' + one, keep_n2: 'take ' + two };
  return kind === 'second'
    ? { apply_n1: 'insert into ' + two, delete: 'delete from ' + one }
    : { apply_n2: 'insert into ' + one, delete: 'delete from ' + two };
}
const toAction = (choice) =>
  choice.startsWith('apply_') ? { type: 'apply_from', from: choice.slice(6), mode: 'insert' } : { type: choice };

function card(pair, index, place) {
  const row = rowAt(state.pair, index);
  const section = element('section', undefined, 'row');
  if (row === null) {
    section.classList.add('waits');
    section.append(element('p', 'still being loaded', 'none'));
    return section;
  }
  section.tabIndex = -1;
  section.dataset.place = place;
  const [a, b] = row;
  const kind = kindOf(row);
  const header = element('header');
  header.append(element('code', keyText(pair, row)));
  header.append(element('span', kind === 'both' ? 'differs' : 'not on ' + pair.nodes[kind === 'first' ? 0 : 1], 'dim'));
  const select = element('select');
  select.setAttribute('aria-label', 'what a repair does with this row');
  select.append(new Option('leave it', ''));
  for (const [value, label] of Object.entries(choices(pair, row))) select.append(new Option(label, value));
  select.value = actions[state.pair].get(index) ?? '';
  select.onchange = () => choose(index, select.value);
  header.append(select);
  section.append(header);
  const table = element('table');
  const titles = element('tr');
  titles.append(element('th', 'column'), element('th', pair.nodes[0]), element('th', pair.nodes[1]));
  table.append(titles);
  pair.columns.forEach((name, i) => {
    const differs = a === null || b === null || !same(a[i], b[i]);
    if (!differs && !state.all) return;
    const tr = element('tr', undefined, differs ? 'd' : undefined);
    tr.append(element('th', name));
    tr.append(a === null ? element('td', 'no such row', 'none') : cell(a[i], b === null ? undefined : b[i]));
    tr.append(b === null ? element('td', 'no such row', 'none') : cell(b[i], a === null ? undefined : a[i]));
    table.append(tr);
  });
  section.append(table);
  return section;
}
function choose(index, value) {
  if (value === '') actions[state.pair].delete(index);
  else actions[state.pair].set(index, value);
  status();
}
function status() {
  const total = head.pairs[state.pair].rows;
  const pages = Math.max(1, Math.ceil(count() / PAGE));
  $('status').textContent =
    (state.shown === null ? total + ' rows' : count() + ' of ' + total + ' rows') +
    ', page ' + (state.page + 1) + ' of ' + pages +
    (actions[state.pair].size > 0 ? ', ' + actions[state.pair].size + ' in the plan' : '');
  $('before').disabled = state.page === 0;
  $('after').disabled = state.page >= pages - 1;
}
function show() {
  const pair = head.pairs[state.pair];
  const from = state.page * PAGE;
  const cards = [];
  for (let place = from; place < Math.min(count(), from + PAGE); place++) cards.push(card(pair, indexAt(place), place));
  $('rows').replaceChildren(...(cards.length > 0 ? cards : [element('p', 'No rows', 'none')]));
  $('cut').hidden = !pair.isCut;
  status();
  mark(false);
  if (document.readyState === 'loading' && document.querySelector('.row.waits') !== null) setTimeout(show, 50);
}
function mark(scrolls) {
  for (const old of document.querySelectorAll('.row.at')) old.classList.remove('at');
  const section = document.querySelector('.row[data-place="' + state.at + '"]');
  if (section === null) return;
  section.classList.add('at');
  if (scrolls) {
    section.focus({ preventScroll: true });
    section.scrollIntoView({ block: 'nearest' });
  }
}
function go(page, at) {
  const pages = Math.max(1, Math.ceil(count() / PAGE));
  state.page = Math.min(Math.max(0, page), pages - 1);
  state.at = at ?? state.page * PAGE;
  show();
  mark(true);
}
function move(step) {
  const at = Math.min(Math.max(0, state.at + step), count() - 1);
  if (Math.floor(at / PAGE) !== state.page) return go(Math.floor(at / PAGE), at);
  state.at = at;
  mark(true);
}
function choosePair(number) {
  state.pair = number;
  state.column = '';
  const pair = head.pairs[number];
  $('kind').replaceChildren(
    new Option('all rows', ''), new Option('on both, different', 'both'),
    new Option('not on ' + pair.nodes[0], 'first'), new Option('not on ' + pair.nodes[1], 'second'));
  $('kind').value = state.kind;
  $('column').replaceChildren(new Option('any column', ''), ...pair.columns.map((name, i) => new Option(name + ' differs', i)));
  $('bulk').replaceChildren(
    new Option('for all rows shown…', ''), new Option('take ' + pair.nodes[0], 'n1'),
    new Option('take ' + pair.nodes[1], 'n2'), new Option('insert what is missing', 'insert'), new Option('leave them', 'none'));
  filter();
}
/** Of the rows that the filter shows, on all pages. */
function chooseAll(how) {
  const pair = head.pairs[state.pair];
  for (let place = 0; place < count(); place++) {
    const index = indexAt(place);
    const row = rowAt(state.pair, index);
    if (row === null) continue;
    const kind = kindOf(row);
    // The node that has the row, where only one has it.
    const owner = kind === 'second' ? 'n1' : 'n2';
    let choice = '';
    if (how === 'insert') choice = kind === 'both' ? (actions[state.pair].get(index) ?? '') : 'apply_' + owner;
    else if (how !== 'none') choice = kind === 'both' ? 'keep_' + how : owner === how ? 'apply_' + owner : 'delete';
    if (choice === '') actions[state.pair].delete(index);
    else actions[state.pair].set(index, choice);
  }
  show();
}
/** JSON by hand, which YAML readers take too: keys stand as in the diff file, digit by digit. */
function planText() {
  const pair = head.pairs[state.pair];
  const overrides = [...actions[state.pair]].sort(([a], [b]) => a - b).map(([index, choice]) => {
    const row = rowAt(state.pair, index);
    const pk = pair.key.map((i) => JSON.stringify(pair.columns[i]) + ': ' + safe(literal((row[0] ?? row[1])[i])));
    return '        {"pk": {' + pk.join(', ') + '}, "action": ' + JSON.stringify(toAction(choice)) + '}';
  });
  return '{\n  "version": 1,\n  "default_action": {"type": "skip"},\n  "tables": {\n    ' + safe(JSON.stringify(head.table)) +
    ': {\n      "default_action": {"type": "skip"},\n      "row_overrides": [\n' + overrides.join(',\n') +
    '\n      ]\n    }\n  }\n}\n';
}
/** Line separators would end a line for some readers. */
const safe = (text) => text.replace(/[\u0080-\u009f\u2028\u2029]/g, (c) => '\\u' + c.charCodeAt(0).toString(16).padStart(4, '0'));
function showPlan() {
  const pair = head.pairs[state.pair];
  $('plan').value = planText();
  $('use').textContent = 'n1 is ' + pair.nodes[0] + ', n2 is ' + pair.nodes[1] + '. All other rows are left alone. acectl table-repair ' +
    head.table + ' --diff-file ' + head.file + ' --nodes ' + pair.nodes.join(',') + ' --repair-plan ' + head.planFile;
  $('dialog').showModal();
}
function save() {
  const link = element('a');
  link.href = URL.createObjectURL(new Blob([$('plan').value], { type: 'application/json' }));
  link.download = head.planFile;
  link.click();
  URL.revokeObjectURL(link.href);
}
$('pair').replaceChildren(...head.pairs.map((pair, i) => new Option(pair.name, i)));
$('pair').onchange = () => choosePair(Number($('pair').value));
$('kind').onchange = () => { state.kind = $('kind').value; filter(); };
$('column').onchange = () => { state.column = $('column').value; filter(); };
let typing;
$('search').oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => { state.text = $('search').value; filter(); }, 150);
};
$('all').onchange = () => { state.all = $('all').checked; show(); };
$('bulk').onchange = () => { if ($('bulk').value !== '') chooseAll($('bulk').value); $('bulk').value = ''; };
$('before').onclick = () => go(state.page - 1);
$('after').onclick = () => go(state.page + 1);
$('make').onclick = showPlan;
$('save').onclick = save;
$('close').onclick = () => $('dialog').close();
$('theme').onclick = () => {
  const root = document.documentElement;
  const isDark = (root.dataset.theme ?? (matchMedia('(prefers-color-scheme:dark)').matches ? 'dark' : 'light')) === 'dark';
  root.dataset.theme = isDark ? 'light' : 'dark';
};
const KEYS = {
  j: () => move(1), k: () => move(-1), n: () => go(state.page + 1), p: () => go(state.page - 1),
  a: () => { state.all = $('all').checked = !state.all; show(); mark(true); },
  r: () => document.querySelector('.row.at select')?.focus(), '/': () => $('search').focus(),
};
document.addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || $('dialog').open) return;
  if (event.key === 'Escape') return document.activeElement?.blur();
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  const act = KEYS[event.key];
  if (act === undefined) return;
  event.preventDefault();
  act();
});
if (head.pairs.length > 0) choosePair(0);
// The rest of the rows has come meanwhile.
document.addEventListener('DOMContentLoaded', () => { if (isFiltered()) filter(); else if (head.pairs.length > 0) show(); });
`;
