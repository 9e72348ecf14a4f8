/** Colours by role, for light and dark; the page has no other file. */
export const PAGE_STYLE = `:root{color-scheme:light;--bg:#fff;--fg:#1b1f24;--dim:#5c6672;--line:#d5dae0;--head:#f2f4f7;--one:#ffe1df;--two:#d9f2df;--mark1:#ff9c93;--mark2:#7fd699;--bad:#b42318;--focus:#0b62d6}
@media(prefers-color-scheme:dark){:root:not([data-theme=light]){color-scheme:dark;--bg:#14171b;--fg:#e4e8ed;--dim:#9aa5b1;--line:#343b44;--head:#1e2329;--one:#432321;--two:#1b3a26;--mark1:#8f3129;--mark2:#256b3c;--bad:#ff8f85;--focus:#78b0ff}}
:root[data-theme=dark]{color-scheme:dark;--bg:#14171b;--fg:#e4e8ed;--dim:#9aa5b1;--line:#343b44;--head:#1e2329;--one:#432321;--two:#1b3a26;--mark1:#8f3129;--mark2:#256b3c;--bad:#ff8f85;--focus:#78b0ff}
body{font:14px/1.5 system-ui,sans-serif;margin:1.5em 2em;color:var(--fg);background:var(--bg)}
h1{font-size:1.4em;margin:0 0 .5em}
table{border-collapse:collapse}th,td{border:1px solid var(--line);padding:2px 8px;text-align:left;vertical-align:top}
th{background:var(--head);font-weight:600}
.v{padding:.25em 1em;border:1px solid var(--line);background:var(--head);margin-bottom:1em}.u{border:2px solid var(--bad)}
.bar{position:sticky;top:0;background:var(--bg);padding:.6em 0;display:flex;flex-wrap:wrap;gap:.5em;align-items:center;border-bottom:1px solid var(--line);z-index:1}
.bar input[type=search]{min-width:16em}button,select,input{font:inherit;color:inherit;background:var(--bg);border:1px solid var(--line);border-radius:4px;padding:2px 8px}
:focus-visible{outline:2px solid var(--focus);outline-offset:1px}
.row{margin:1em 0;border:1px solid var(--line);border-radius:4px;break-inside:avoid}
.row.at{border-color:var(--focus);box-shadow:0 0 0 1px var(--focus)}
.row>header{display:flex;flex-wrap:wrap;gap:1em;align-items:center;padding:4px 8px;background:var(--head)}
.row>header code{font-weight:600;white-space:pre-wrap;word-break:break-word}.row>header select{margin-left:auto}
.row table{width:100%;table-layout:fixed}.row th:first-child{width:14em;word-break:break-word}
.row td{white-space:pre-wrap;word-break:break-word;font-family:ui-monospace,monospace;font-size:13px}
tr.d td:nth-child(2){background:var(--one)}tr.d td:nth-child(3){background:var(--two)}
tr.d td:nth-child(2) mark{background:var(--mark1);color:inherit}tr.d td:nth-child(3) mark{background:var(--mark2);color:inherit}
.null,.none{color:var(--dim);font-style:italic;font-family:system-ui,sans-serif}.dim{color:var(--dim)}
.null{border:1px dashed var(--line);border-radius:3px;padding:0 4px}
dialog{background:var(--bg);color:var(--fg);border:1px solid var(--line);max-width:60em;width:90%}dialog textarea{width:100%;height:24em;font:13px ui-monospace,monospace;background:var(--bg);color:var(--fg)}
@media print{.bar,.row>header select,dialog{display:none}body{margin:0}:root,:root[data-theme=dark]{color-scheme:light;--bg:#fff;--fg:#000;--dim:#444;--line:#999;--head:#eee;--one:#fdd;--two:#dfd;--mark1:#f99;--mark2:#9e9}tr.d td{-webkit-print-color-adjust:exact;print-color-adjust:exact}}`;
