/** Results as one HTML page that needs nothing else: no network, no script, no font, no image. */
import { isDeepStrictEqual } from 'node:util';
import { benchFacts } from '../bench/facts.ts';
import { listOf } from '../checks/value.ts';
import { UsageError } from '../errors.ts';
import { evaluateFacts } from '../evaluate/facts.ts';
import { loadFacts } from '../load/facts.ts';
import { version } from '../version.ts';
import { benchFigures } from './bench-figures.ts';
import { benchFindings } from './bench-findings.ts';
import { characterizeFigures } from './characterize-figures.ts';
import { characterizeFindings } from './characterize-findings.ts';
import { drawBars, drawHeat, drawLegend, drawLines } from './charts.ts';
import { evaluateFigures } from './evaluate-figures.ts';
import { evaluateFindings } from './evaluate-findings.ts';
import type { Figure } from './figure.ts';
import type { Finding } from './findings.ts';
import { type Html, html, raw } from './html.ts';
import { loadFigures } from './load-figures.ts';
import { loadFindings } from './load-findings.ts';
import { parseResults, type Results } from './read-results.ts';
import { STYLE } from './style.ts';

/** The results without those that equal an earlier one. */
export function distinctResults(results: readonly Results[]): Results[] {
  return results.filter((own, i) => results.findIndex((other) => isDeepStrictEqual(other, own)) === i);
}

/** The device that results belong to: its name and architecture; or the server. */
function deviceName(results: Results): string {
  if (results.kind === 'load') return results.server.url;
  if (results.kind === 'evaluate') return results.model.device;
  if (results.device !== undefined) return `${results.device.name} (${results.device.architecture})`;
  return 'no device: static reports of kernels';
}

/**
 * One self-contained HTML page. Every device has a section of its own and every run its own charts, since figures
 * compare only with those of the same run. Results that are given twice are shown once, and the page says so.
 * @throws UsageError USAGE without results, OPTION_INVALID; FormatError as parseResults.
 */
export function renderReport(given: readonly Results[]): string {
  const results = listOf((value) => parseResults(value))(given, 'renderReport: results');
  const shown = distinctResults(results);
  if (shown.length === 0) throw new UsageError('USAGE', 'a report needs results');
  const devices = [...new Set(shown.map(deviceName))];
  const runs = shown.map((own, i) => ({ own, id: `run-${i + 1}`, device: deviceName(own) }));
  const repeats = results.length - shown.length;
  const sections = devices.map((device, i) => {
    const inside = runs.filter((run) => run.device === device);
    return html`<section aria-labelledby="device-${i + 1}"><h2 id="device-${i + 1}">${devices.length > 1 ? device : 'Runs'}</h2>${inside.map(({ own, id }) => renderRun(own, id))}</section>`;
  });
  const links = runs.map(
    ({ own, id, device }) =>
      html`<li><a href="#${id}">${devices.length > 1 ? `${device}: ` : ''}${runTitle(own)}</a></li>`,
  );
  const title = devices.length === 1 ? devices[0] : `${devices.length} devices`;
  const lead = [
    'Figures of one run compare with each other, not with those of other runs or devices.',
    ...(repeats > 0
      ? [`${repeats} of the ${results.length} results given repeat another and are shown once.`]
      : []),
  ].join(' ');
  return `${html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="Hotrow ${version}">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Hotrow report: ${title}</title>
<style>${raw(STYLE)}</style>
</head>
<body>
<header class="page"><p class="brand">Hotrow report</p><h1>${title}</h1><p class="lead">${lead}</p><nav aria-label="runs"><ul>${links}</ul></nav></header>
<main>${sections}</main>
<footer>Written by Hotrow ${version} from recorded results.</footer>
</body>
</html>`}\n`;
}

const day = (createdAt: string) => createdAt.replace(/T(\d\d:\d\d).*$/, ' $1 UTC');

function runTitle(results: Results): string {
  if (results.kind === 'load') return `load of ${results.server.model}, ${day(results.createdAt)}`;
  if (results.kind === 'evaluate') return `evaluation of ${results.model.file}, ${day(results.createdAt)}`;
  if (results.kind === 'characterize') return `characterization, ${day(results.createdAt)}`;
  const patterns = new Set([...results.embedding, ...results.model].map(({ pattern }) => pattern));
  const sweeps = new Set(results.embedding.flatMap(({ sweep }) => (sweep === undefined ? [] : [sweep])));
  const what = [
    [...patterns].join(', '),
    ...(sweeps.size > 0 ? [`sweeps of ${[...sweeps].join(', ')}`] : []),
  ];
  return `${results.preset} benchmark: ${what.join('; ')}`;
}

function figuresAndFindings(results: Results): [readonly Figure[], readonly Finding[]] {
  switch (results.kind) {
    case 'bench':
      return [benchFigures(results), benchFindings(results)];
    case 'characterize':
      return [characterizeFigures(results), characterizeFindings(results)];
    case 'load':
      return [loadFigures(results), loadFindings(results)];
    case 'evaluate':
      return [evaluateFigures(results), evaluateFindings(results)];
    default:
      return results satisfies never;
  }
}

function renderRun(results: Results, id: string): Html {
  const [figures, findings] = figuresAndFindings(results);
  return html`<article id="${id}" aria-labelledby="${id}-title"><h3 id="${id}-title">${runTitle(results)}</h3>${renderFacts(results)}${renderFindings(findings, id)}${figures.map((figure) => renderFigure(figure, id))}</article>`;
}

const versionList = (versions: Readonly<Record<string, string>>) =>
  Object.entries(versions)
    .map(([name, text]) => `${name} ${text}`)
    .join(', ');

function factsOf(results: Results): [string, string][] {
  switch (results.kind) {
    case 'bench':
      return [
        ...benchFacts(results),
        ['versions', `hotrow ${results.hotrow}, ${versionList(results.device.versions)}`],
      ];
    case 'characterize': {
      const versions = [`hotrow ${results.hotrow}`, versionList(results.device?.versions ?? {})];
      return [
        ...(results.device === undefined ? [] : ([['device', deviceName(results)]] as [string, string][])),
        ['tools', versionList(results.tools)],
        ['versions', versions.filter((text) => text !== '').join(', ')],
      ];
    }
    case 'load':
      return [...loadFacts(results), ['versions', `hotrow ${results.hotrow}`]];
    case 'evaluate':
      return [...evaluateFacts(results), ['versions', `hotrow ${results.hotrow}`]];
    default:
      return results satisfies never;
  }
}

function renderFacts(results: Results): Html {
  const facts = factsOf(results);
  const entries = [...facts, ['recorded', day(results.createdAt)]].map(
    ([name, text]) => html`<div><dt>${name}</dt><dd>${text}</dd></div>`,
  );
  const protocol =
    results.kind === 'bench'
      ? html`<details><summary>Protocol: how times were taken</summary><p class="note">${results.protocol}</p></details>`
      : undefined;
  const notes = results.notes.map((note) => html`<p class="note">Note: ${note}</p>`);
  return html`<div class="facts"><dl>${entries}<div class="wide"><dt>command</dt><dd><code>${results.command}</code></dd></div></dl>${notes}${protocol}</div>`;
}

/** Keeps numbers and their units on one line. */
const unbroken = (text: string) => text.replace(/(\d) (%|ms|µs|B|GB\/s)(?!\w)/g, '$1\u00a0$2');

function renderFindings(findings: readonly Finding[], id: string): Html | undefined {
  if (findings.length === 0) return undefined;
  const items = findings.map(
    ({ text, cites, figure, rule }) =>
      html`<li data-rule="${rule}"><p>${unbroken(text)}</p><small>${unbroken(cites.map(({ what, value }) => `${what}: ${value}`).join('; '))} (<a href="#${id}-${figure}" aria-label="the figure behind: ${text}">figure</a>)</small></li>`,
  );
  return html`<ul class="findings" aria-label="findings">${items}</ul>`;
}

function renderFigure(figure: Figure, run: string): Html {
  const { chart, title, note } = figure;
  const id = `${run}-${figure.id}`;
  const head = html`<figcaption><h4 id="${id}-title">${title}</h4><p class="note">${note}</p></figcaption>`;
  const table = renderTable(figure, `${id}-title`);
  if (chart === undefined)
    return html`<figure id="${id}" aria-labelledby="${id}-title">${head}${table}</figure>`;
  const panels =
    chart.kind === 'bars'
      ? drawBars(title, chart)
      : chart.kind === 'lines'
        ? drawLines(title, chart)
        : drawHeat(title, chart);
  const legend = chart.kind === 'heat' ? undefined : drawLegend(chart);
  return html`<figure id="${id}" aria-labelledby="${id}-title">${head}${legend}<div class="${chart.kind === 'heat' ? 'panels wide' : 'panels'}">${panels}</div><details><summary>Table: ${title}</summary>${table}</details></figure>`;
}

/** Cells of more characters break. */
const LONG_CELL = 60;

function renderTable({ table: { columns, rows } }: Figure, labelledBy: string): Html {
  const head = columns.map(
    ({ title, left }) => html`<th scope="col"${left ? html` class="left"` : undefined}>${title}</th>`,
  );
  const body = rows.map((cells) => {
    const contents = cells.map((cell, i) => {
      if (i === 0) return html`<th scope="row">${cell}</th>`;
      const classes = [
        ...(columns[i]?.left ? ['left'] : []),
        ...(cell.length > LONG_CELL ? ['wrap'] : []),
      ].join(' ');
      return html`<td${classes === '' ? undefined : html` class="${classes}"`}>${cell}</td>`;
    });
    return html`<tr>${contents}</tr>`;
  });
  return html`<div class="scroll" tabindex="0" role="group" aria-labelledby="${labelledBy}"><table><thead><tr>${head}</tr></thead><tbody>${body}</tbody></table></div>`;
}
