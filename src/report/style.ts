/** The page's style sheet: light and dark, phone and paper. */

const LIGHT = `
  --surface: #ffffff; --raised: #f5f7fa; --border: #d5dbe3; --grid: #e3e8ee;
  --ink: #14202e; --muted: #4c5a6b; --accent: #0b6b3a; --link: #0a5fa8; --heat: #f0a35c;
  --series-1: #0072b2; --series-2: #b84a00; --series-3: #007a5a; --series-4: #a8437c;
  --series-5: #7a6200; --series-6: #5b4fc0; --series-7: #17757f; --series-8: #5f6670;`;

const DARK = `
  --surface: #10161e; --raised: #18212c; --border: #314052; --grid: #283546;
  --ink: #e8edf3; --muted: #a9b6c5; --accent: #7fd6a3; --link: #7cc0f5; --heat: #9a4d12;
  --series-1: #56b4e9; --series-2: #f29b38; --series-3: #2fc79a; --series-4: #e58fbf;
  --series-5: #e8dc4a; --series-6: #a79cf5; --series-7: #6fd6e0; --series-8: #a7afba;`;

export const STYLE = `
:root { color-scheme: light dark; ${LIGHT} }
@media (prefers-color-scheme: dark) { :root { ${DARK} } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body { margin: 0; background: var(--surface); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header.page, footer { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
header.page { padding-top: 36px; padding-bottom: 8px; }
.brand { color: var(--accent); font-weight: 700; letter-spacing: .08em; text-transform: uppercase; font-size: 12px; margin: 0 0 4px; }
h1 { font-size: clamp(24px, 4vw, 34px); line-height: 1.2; margin: 0 0 8px; letter-spacing: -.01em; }
h2 { font-size: 24px; line-height: 1.25; margin: 40px 0 12px; padding-bottom: 8px; border-bottom: 2px solid var(--border); }
h3 { font-size: 19px; line-height: 1.3; margin: 32px 0 10px; }
h4 { font-size: 17px; line-height: 1.3; margin: 0 0 4px; }
h1, h2, h3, h4, p, li, dd { overflow-wrap: anywhere; }
a { color: var(--link); }
.lead, .note { color: var(--muted); margin: 0 0 12px; max-width: 100ch; }
nav ul { list-style: none; display: flex; flex-wrap: wrap; gap: 6px 18px; padding: 0; margin: 8px 0 0; }
.facts { margin: 0 0 20px; padding: 16px 18px; background: var(--raised); border: 1px solid var(--border); border-radius: 10px; }
.facts dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 300px), 1fr)); gap: 10px 28px; margin: 0 0 12px; }
.facts dl div { min-width: 0; }
.facts .wide { grid-column: 1 / -1; }
.facts .note { margin-bottom: 4px; }
dt { color: var(--muted); font-size: 12px; text-transform: uppercase; letter-spacing: .05em; }
dd { margin: 0; }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; overflow-wrap: anywhere; }
.findings { padding: 0; margin: 0 0 20px; list-style: none; display: grid; gap: 10px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 380px), 1fr)); }
.findings li { padding: 12px 14px; border: 1px solid var(--border); border-left: 4px solid var(--accent); border-radius: 8px; }
.findings p { margin: 0 0 4px; font-weight: 600; }
.findings small { color: var(--muted); font-size: 13px; display: block; }
figure { margin: 0 0 26px; padding: 18px; border: 1px solid var(--border); border-radius: 10px; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: 4px 16px; padding: 0; margin: 0 0 12px; font-size: 13px; }
.legend li { display: flex; align-items: center; gap: 6px; }
.legend svg { flex: none; }
.panels { display: grid; gap: 18px 26px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
.panels.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr)); }
.panel { min-width: 0; max-width: 560px; }
.panel-title { margin: 0 0 4px; font-weight: 600; font-size: 14px; }
.panel svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font-size: 12px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg .tick { fill: var(--muted); font-size: 10.5px; }
svg .axis { fill: var(--muted); font-size: 11.5px; }
svg .label, svg .value, svg .tick { paint-order: stroke; stroke: var(--surface); stroke-width: 3px; stroke-linejoin: round; }
svg .value { font-weight: 600; font-size: 11.5px; }
svg .grid { stroke: var(--grid); stroke-width: 1; }
svg .reference { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 3 3; }
svg .target { stroke: var(--ink); stroke-width: 2; }
svg .bar { stroke: var(--surface); stroke-width: 1; }
svg .line { fill: none; stroke-width: 1.8; }
svg .plain { stroke: var(--ink); }
.scroll { overflow-x: auto; max-width: 100%; border: 1px solid var(--border); border-radius: 8px; }
.scroll:focus-visible, summary:focus-visible, a:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--grid); }
tr:last-child > * { border-bottom: 0; }
thead th { background: var(--raised); color: var(--muted); font-weight: 600; }
tbody th, thead th:first-child, .left { text-align: left; }
tbody th { font-weight: 400; }
td.wrap { white-space: normal; min-width: 18em; }
.heat { background: color-mix(in oklab, var(--heat) var(--share), transparent); }
details { margin-top: 12px; }
summary { cursor: pointer; color: var(--link); font-size: 13px; margin-bottom: 6px; width: fit-content; }
footer { color: var(--muted); font-size: 13px; padding-top: 8px; padding-bottom: 40px; }
@media (max-width: 480px) {
  main, header.page, footer { padding-left: 12px; padding-right: 12px; }
  figure { padding: 12px 10px; }
}
@media print {
  :root { color-scheme: light; ${LIGHT} }
  body { font-size: 11pt; }
  nav, summary { display: none; }
  .facts details::details-content { content-visibility: visible; display: block; }
  figure, .findings li, .panel { break-inside: avoid; }
  figure:has(.panel:nth-child(4)) { break-inside: auto; }
  h2, h3, h4 { break-after: avoid; }
  .scroll { overflow: visible; border: 0; }
  .heat { print-color-adjust: exact; }
  th, td { white-space: normal; padding: 2px 5px; }
  .panels, .panels.wide { grid-template-columns: repeat(2, 1fr); }
}
`;
