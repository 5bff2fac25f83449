/** Figures drawn as static SVG: small panels, 360 units wide, that a page lets flow from one column to several. */
import { scaleLinear, scaleLog } from 'd3-scale';
import {
  line as linePath,
  type SymbolType,
  symbol,
  symbolCircle,
  symbolCross,
  symbolDiamond,
  symbolSquare,
  symbolStar,
  symbolTriangle,
  symbolWye,
} from 'd3-shape';
import { percent, significant } from '../numbers.ts';
import type { Bar, BarChart, HeatMap, LineChart, LinePanel } from './figure.ts';
import { type Html, html } from './html.ts';

/** Colours that the style sheet defines: `--series-1` … */
export const SERIES_COLORS = 8;

const MARKERS: readonly SymbolType[] = [
  symbolCircle,
  symbolSquare,
  symbolTriangle,
  symbolDiamond,
  symbolCross,
  symbolStar,
  symbolWye,
];

/** The series whose colour sets a bar apart. */
const TONES = { best: 2, peer: 7 } as const;

const WIDTH = 360;
const MARGIN = { left: 46, right: 14, top: 12, bottom: 40 };
const BAR = { row: 38, label: 15, height: 11, axis: 40 };
const LINES_HEIGHT = 250;
/** Of text in charts, by the widest of the common fonts. */
const CHARACTER_WIDTH = 7.2;

/** What an axis can show: beyond, what numbers are for is lost in their rounding. */
const within = (value: number) => Math.min(1e18, Math.max(1e-9, value));
const round = (value: number) => Math.round(value * 10) / 10;
const color = (series: number) => `var(--series-${(series % SERIES_COLORS) + 1})`;
const marker = (series: number, size: number) => symbol(MARKERS[series % MARKERS.length], size)() ?? '';

/** An SVG image with the name and the description that screen readers tell. */
function image(name: string, description: string, height: number, content: readonly Html[]): Html {
  return html`<svg viewBox="0 0 ${WIDTH} ${round(height)}" role="img" aria-label="${name}. ${description}"><title>${name}</title><desc>${description}</desc>${content}</svg>`;
}

/** A grid line with its label under the plot, which stays inside the picture. */
function tick(x: number, top: number, bottom: number, label: string): Html {
  const anchor = x < 12 ? 'start' : x > WIDTH - 12 ? 'end' : 'middle';
  return html`<line class="grid" x1="${round(x)}" x2="${round(x)}" y1="${top}" y2="${round(bottom)}"/><text class="tick" x="${round(x)}" y="${round(bottom + 14)}" text-anchor="${anchor}">${label}</text>`;
}

/** Bars under their labels, values right of them; every panel has the same scale. */
export function drawBars(name: string, chart: BarChart): Html[] {
  const { panels, references, axis } = chart;
  const lengths = panels.flatMap(({ bars }) =>
    bars.flatMap(({ parts, target }) => [parts.reduce((sum, part) => sum + part, 0), target ?? 0]),
  );
  const most = Math.max(0, ...[...lengths, ...references.map(({ value }) => value)].filter(Number.isFinite));
  const characters = Math.max(0, ...panels.flatMap(({ bars }) => bars.map(({ text }) => text.length)));
  const right = Math.max(WIDTH / 4, WIDTH - characters * CHARACTER_WIDTH - 8);
  const scale = scaleLinear([0, most > 0 ? within(most) : 1], [1, right])
    .nice(4)
    .clamp(true);
  const x = (value: number) => scale(Number.isNaN(value) ? 0 : value);
  return panels.map(({ title, bars }) => {
    const bottom = bars.length * BAR.row + (references.length > 0 ? BAR.label : 0);
    const top = references.length > 0 ? BAR.label : 0;
    const description = bars.map(({ label, text }) => `${label}: ${text}`).join('; ');
    const content = [
      ...scale.ticks(4).map((value) => tick(x(value), top, bottom, scale.tickFormat(4)(value))),
      ...references.map((reference) => drawReference(reference, x(reference.value), top, bottom)),
      ...bars.map((bar, i) => drawBar(bar, chart.legend, top + i * BAR.row, x)),
      html`<text class="axis" x="1" y="${bottom + BAR.axis - 8}">${axis}</text>`,
    ];
    return panel(title, image(titled(name, title), description, bottom + BAR.axis, content));
  });
}

function drawReference({ label }: { readonly label: string }, x: number, top: number, bottom: number): Html {
  const anchor = x > WIDTH / 3 ? 'end' : 'start';
  return html`<line class="reference" x1="${round(x)}" x2="${round(x)}" y1="${top}" y2="${bottom}"/><text class="tick" x="${round(x)}" y="10" text-anchor="${anchor}">${label}</text>`;
}

function drawBar(
  { label, text, parts, tone, target }: Bar,
  legend: readonly string[],
  top: number,
  x: (value: number) => number,
): Html {
  const first = tone === undefined ? 0 : TONES[tone];
  let begin = 0;
  const y = top + BAR.label + 4;
  const rectangles = parts.map((part, series) => {
    const left = x(begin);
    begin += part;
    const width = Math.max(0, x(begin) - left);
    const named = legend[series];
    const name = named === undefined ? undefined : html`<title>${named}: ${significant(part)}</title>`;
    return html`<rect class="bar" x="${round(left)}" y="${y}" width="${round(width)}" height="${BAR.height}" fill="${color(first + series)}">${name}</rect>`;
  });
  const mark =
    target === undefined
      ? undefined
      : html`<line class="target" x1="${round(x(target))}" x2="${round(x(target))}" y1="${y - 1}" y2="${y + BAR.height + 3}"/>`;
  const title = shorten(label, Math.floor(WIDTH / CHARACTER_WIDTH));
  return html`<g><title>${label}: ${text}</title><text class="label" x="1" y="${top + BAR.label}">${title}</text>${rectangles}${mark}<text class="value" x="${WIDTH - 1}" y="${y + BAR.height - 1}" text-anchor="end">${text}</text></g>`;
}

function shorten(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, Math.max(1, characters - 1))}…`;
}

/** Lines with markers; every panel has the same y scale. */
export function drawLines(name: string, chart: LineChart): Html[] {
  const { panels, yScale } = chart;
  const values = panels.flatMap(({ lines }) => lines.flatMap(({ points }) => points.map(([, y]) => y)));
  const range = [LINES_HEIGHT - MARGIN.bottom, MARGIN.top + 12];
  const ends = logEnds(values.filter((value) => value > 0).map(within));
  const most = yScale === 'share' ? 1 : Math.max(0, ...values.filter(Number.isFinite));
  const y = (
    yScale === 'log' ? scaleLog(ends, range) : scaleLinear([0, most > 0 ? within(most) : 1], range).nice(5)
  ).clamp(true);
  const format = yScale === 'share' ? (value: number) => percent(value) : (value: number) => String(value);
  const ticks = yScale === 'log' ? logTicks(ends) : y.ticks(5);
  return panels.map((shown) => {
    const x = xAxis(shown);
    const description = shown.lines
      .map(({ series, dashed, points }) => {
        // Of what moves, the end says how it is now.
        const told = (shown.seconds === undefined ? points : points.slice(-1)).map(([, value]) =>
          yScale === 'share' ? percent(value) : significant(value),
        );
        return `${chart.legend[series]}${dashed ? ` (${chart.dashed})` : ''}: ${told.length === 0 ? '–' : told.join(', ')}`;
      })
      .join('; ');
    const content = [
      ...ticks.map(
        (value) =>
          html`<line class="grid" x1="${MARGIN.left}" x2="${WIDTH - MARGIN.right}" y1="${round(y(value))}" y2="${round(y(value))}"/><text class="tick" x="${MARGIN.left - 6}" y="${round(y(value) + 4)}" text-anchor="end">${format(value)}</text>`,
      ),
      ...x.ticks.map(({ at, label }) => tick(at, MARGIN.top + 12, LINES_HEIGHT - MARGIN.bottom, label)),
      ...shown.lines.map(({ series, dashed, points }) => {
        const placed = points
          .filter(([, value]) => Number.isFinite(value) && (yScale !== 'log' || value > 0))
          .map(([at, value]): [number, number] => [round(x.scale(at)), round(y(value))]);
        const stroke = dashed ? html` stroke-dasharray="4 3"` : undefined;
        const path = html`<path class="line" d="${linePath()(placed) ?? ''}" stroke="${color(series)}"${stroke}/>`;
        const marked = markedPoints(shown, placed);
        const form = marker(series, dashed ? 18 : 34);
        const markers = marked.map(
          ([left, top]) =>
            html`<path d="${form}" transform="translate(${left},${top})" fill="${color(series)}"/>`,
        );
        return html`<g><title>${chart.legend[series]}${dashed ? ` (${chart.dashed})` : ''}</title>${path}${markers}</g>`;
      }),
      html`<text class="axis" x="1" y="${MARGIN.top}">${chart.yTitle}</text>`,
      html`<text class="axis" x="${WIDTH / 2}" y="${LINES_HEIGHT - 8}" text-anchor="middle">${shown.xTitle}</text>`,
    ];
    return panel(shown.title, image(titled(name, shown.title), description, LINES_HEIGHT, content));
  });
}

/** A smooth curve needs no marker at every point, and one that moves none that jump. */
function markedPoints<P>({ steps, seconds }: LinePanel, points: readonly P[]): readonly P[] {
  if (seconds !== undefined) return points.slice(-1);
  return steps === undefined ? points.filter((_, i) => i % 8 === 0) : points;
}

/** What numbers on logarithmic axes begin with. */
const LEADING = [1, 2, 5] as const;

/** The ends of a logarithmic axis that holds all values, each 1, 2 or 5 times a power of ten. */
function logEnds(values: readonly number[]): [number, number] {
  if (values.length === 0) return [1, 10];
  const exponents = [Math.min(...values), Math.max(...values)].map((value) => Math.floor(Math.log10(value)));
  const [low, high] = exponents as [number, number];
  const steps = (exponent: number) => LEADING.map((digit) => Number(`${digit}e${exponent}`));
  const below = steps(low).filter((step) => step <= Math.min(...values));
  const above = [...steps(high), Number(`1e${high + 1}`)].filter((step) => step > Math.max(...values));
  return [below.at(-1) as number, above[0] as number];
}

/** 1, 2 and 5 times the powers of ten in the domain; only the powers where those are many. */
function logTicks([low, high]: readonly [number, number]): number[] {
  const ticks = scaleLog([low, high], [0, 1]).ticks();
  const startsWith = (digits: readonly number[]) =>
    ticks.filter((value) => digits.includes(Number(value.toExponential()[0])));
  const fine = startsWith(LEADING);
  return fine.length <= 9 ? fine : startsWith([1]);
}

interface XAxis {
  readonly scale: (x: number) => number;
  readonly ticks: readonly { readonly at: number; readonly label: string }[];
}

function xAxis({ steps, seconds, lines }: LinePanel): XAxis {
  const range = [MARGIN.left + 8, WIDTH - MARGIN.right - 8];
  if (seconds !== undefined) {
    const scale = scaleLinear([-seconds, 0], range).clamp(true);
    return {
      scale,
      ticks: scale.ticks(4).map((x) => ({ at: scale(x), label: x === 0 ? 'now' : `${-x} s` })),
    };
  }
  if (steps !== undefined) {
    const scale = scaleLinear([0, Math.max(1, steps.length - 1)], range);
    return { scale, ticks: steps.map((label, i) => ({ at: scale(i), label })) };
  }
  const furthest = Math.max(10, ...lines.flatMap(({ points }) => points.map(([x]) => within(x))));
  const scale = scaleLog([1, furthest], range).clamp(true);
  const powers = scale.ticks().filter((value) => Number.isInteger(Math.log10(value)));
  return {
    scale,
    ticks: powers.map((value) => ({ at: scale(value), label: value.toLocaleString('en-US') })),
  };
}

/** Tables whose cells are coloured by their share. */
export function drawHeat(name: string, chart: HeatMap): Html[] {
  return chart.panels.map(({ title, columns, rows }) => {
    const head = columns.map((column) => html`<th scope="col">${column}</th>`);
    const body = rows.map(({ label, shares }) => {
      const cells = shares.map((share) =>
        share === undefined
          ? html`<td>–</td>`
          : html`<td class="heat" style="--share:${Math.round(100 * share)}%">${percent(share)}</td>`,
      );
      return html`<tr><th scope="row">${label}</th>${cells}</tr>`;
    });
    return panel(
      title,
      html`<div class="scroll" tabindex="0" role="group" aria-label="${name}: ${title}"><table><thead><tr><th scope="col">variant</th>${head}</tr></thead><tbody>${body}</tbody></table></div>`,
    );
  });
}

/** The only panel of a chart needs no title of its own. */
function titled(name: string, title: string): string {
  return title === '' ? name : `${name}: ${title}`;
}

function panel(title: string, content: Html): Html {
  const head = title === '' ? undefined : html`<p class="panel-title">${title}</p>`;
  return html`<div class="panel">${head}${content}</div>`;
}

/** What colours, markers and dashes stand for. */
export function drawLegend(chart: BarChart | LineChart): Html | undefined {
  const { legend } = chart;
  const dashed = chart.kind === 'lines' ? chart.dashed : undefined;
  if (legend.length < 2 && dashed === undefined) return undefined;
  const swatch = (series: number) =>
    chart.kind === 'bars'
      ? html`<rect x="3" y="2" width="18" height="10" fill="${color(series)}"/>`
      : html`<path class="line" d="M0,7H24" stroke="${color(series)}"/><path d="${marker(series, 34)}" transform="translate(12,7)" fill="${color(series)}"/>`;
  const entries = legend.map(
    (label, series) =>
      html`<li><svg width="24" height="14" viewBox="0 0 24 14" aria-hidden="true">${swatch(series)}</svg>${label}</li>`,
  );
  const dash =
    dashed === undefined
      ? undefined
      : html`<li><svg width="24" height="14" viewBox="0 0 24 14" aria-hidden="true"><path class="line plain" d="M0,7H24" stroke-dasharray="4 3"/></svg>${dashed}</li>`;
  return html`<ul class="legend">${entries}${dash}</ul>`;
}
