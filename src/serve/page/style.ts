/** What the server's page has beside the style of reports. */
export const LIVE_STYLE = `
[hidden] { display: none !important; }
main > section > h2 { margin-top: 28px; }
figcaption h3 { margin: 0 0 4px; font-size: 17px; }
figcaption .note { margin-bottom: 8px; }
#status { margin: 0; }
#status[data-state="live"]::before { content: "● "; color: var(--accent); }
#status[data-state="lost"] { color: var(--ink); font-weight: 600; }
.choice, #ask { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; margin: 12px 0 0; }
select, input, button { font: inherit; color: var(--ink); background: var(--raised); border: 1px solid var(--muted);
  border-radius: 8px; padding: 6px 10px; max-width: 100%; min-height: 36px; }
select:focus-visible, input:focus-visible, button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
button { cursor: pointer; font-weight: 600; }
.tiles { display: grid; gap: 10px; margin: 0 0 10px; grid-template-columns: repeat(auto-fill, minmax(min(46%, 150px), 1fr)); }
.tiles div { padding: 10px 14px; background: var(--raised); border: 1px solid var(--border); border-radius: 10px; min-width: 0; }
.tiles dd { font-size: 22px; line-height: 1.3; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.charts { display: grid; gap: 0 18px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); align-items: start; }
.charts figure { margin-bottom: 18px; min-width: 0; }
.charts .panel { max-width: none; }
tbody th { white-space: normal; min-width: 9em; }
#fit { border-left: 4px solid var(--accent); padding: 8px 14px; margin: 0 0 8px; background: var(--raised); border-radius: 0 8px 8px 0; max-width: 100ch; }
#fit[data-verdict="tune"] { border-left-color: var(--series-2); }
#tables .scroll { max-height: 420px; overflow-y: auto; }
.noscript { max-width: 1240px; margin: 0 auto; padding: 0 20px; }
`;
