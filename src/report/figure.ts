/** Figures as data: what a chart shows and the table behind it. `charts.ts` draws them. */
import type { RenderedTable } from '../bench/render.ts';

/** A horizontal bar under its label; of several parts, they follow each other. */
export interface Bar {
  readonly label: string;
  /** The value in words. */
  readonly text: string;
  /** Lengths in the axis's unit, one per entry of the legend; without a legend, one. */
  readonly parts: readonly number[];
  /** Sets the bar apart from the others of its panel. */
  readonly tone?: 'best' | 'peer';
  /** A mark to compare with, in the same unit. */
  readonly target?: number;
}

export interface BarChart {
  readonly kind: 'bars';
  /** What the axis measures, with its unit. */
  readonly axis: string;
  /** Names of the parts. */
  readonly legend: readonly string[];
  /** Lines across a panel, such as a ceiling. */
  readonly references: readonly { readonly label: string; readonly value: number }[];
  readonly panels: readonly { readonly title: string; readonly bars: readonly Bar[] }[];
}

/** Points [x, y]; with steps, x is the step's position. */
export interface Line {
  /** Position in the legend: its colour and marker. */
  readonly series: number;
  readonly dashed: boolean;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface LinePanel {
  readonly title: string;
  readonly xTitle: string;
  /** Labels of evenly spaced positions on the x axis; without them it is logarithmic. */
  readonly steps?: readonly string[];
  /** The x axis is time: so many seconds before now at most, which is 0; points have negative x. Lines are marked at their ends. */
  readonly seconds?: number;
  readonly lines: readonly Line[];
}

export interface LineChart {
  readonly kind: 'lines';
  /** With its unit. */
  readonly yTitle: string;
  /** Shares run from 0 to 1 on a linear axis, amounts from 0; times on a logarithmic one. */
  readonly yScale: 'share' | 'amount' | 'log';
  readonly legend: readonly string[];
  /** What dashed lines are, where there are any. */
  readonly dashed?: string;
  readonly panels: readonly LinePanel[];
}

/** Shares in [0, 1] as coloured cells; the chart is a table itself. */
export interface HeatMap {
  readonly kind: 'heat';
  readonly panels: readonly {
    readonly title: string;
    readonly columns: readonly string[];
    readonly rows: readonly { readonly label: string; readonly shares: readonly (number | undefined)[] }[];
  }[];
}

export interface Figure {
  /** Unique among the figures of one run; findings refer to it. */
  readonly id: string;
  readonly title: string;
  /** How to read it. */
  readonly note: string;
  /** Without one, the table is all there is. */
  readonly chart?: BarChart | LineChart | HeatMap;
  readonly table: Omit<RenderedTable, 'title'>;
}

export type Column = Figure['table']['columns'][number];

/** A column of words. */
export const text = (title: string): Column => ({ title, left: true });

/** A column of numbers. */
export const number = (title: string): Column => ({ title });
