/**
 * How long a batch takes: t(n) = a + b · n ms, n samples, fitted while batches run, at a high quantile and per capacity class.
 *
 * One robust line goes through the last batches of all sizes. A class lies beside it by the median of its own batches; how far the
 * quantile is from the median, all batches say together, since a class has too few to tell slow ones from its usual time.
 */
import { at } from '../../at.ts';

/** A batch that ran. */
export interface Measured {
  readonly samples: number;
  readonly ms: number;
}

export interface LatencyOptions {
  /** The room of the program that runs a batch of so many samples: `capacityFor` of the backend. It must not fall as n grows. */
  readonly capacityOf: (samples: number) => number;
  /** The share of batches that should take no longer than predicted. Default 0.95. */
  readonly quantile?: number;
  /** What batches took before the first request. It counts until batches say otherwise, and gives the slope while all have one size. */
  readonly warmUp?: readonly Measured[];
}

/** The line of a class: a + b · n ms. */
export interface ClassFit {
  /** The largest capacity of the class, in samples. */
  readonly capacity: number;
  readonly a: number;
  readonly b: number;
  /** How many of the last batches were of this class. */
  readonly observations: number;
}

/** Batches that the fit is made of. */
const WINDOW = 256;
/** When the last so many batches show another level than the window, its older ones no longer count. */
const RECENT = 32;
/** How far apart the medians of the two must be for that. */
const CHANGED = 1.25;
/** What is left of the window then: the half of the last ones that is of the new level for certain. */
const KEPT = RECENT / 2;
/** Batches from one fit to the next; each of the first so many makes a fit. */
const REFIT_EVERY = 16;
/** A class with fewer batches lies on the line of all. */
const LEAST_OF_CLASS = 16;
/** Classes for each doubling of the capacity: the few sizes of a GPU's programs, and ranges where each size is its own program. */
const CLASSES_PER_DOUBLING = 4;
const CLASSES = 32 * CLASSES_PER_DOUBLING;
const MOST_SAMPLES = 2 ** 31 - 1;
/** Rounds of reweighting; the line moves little after the third. */
const ROUNDS = 4;
/** Residuals below this share of the line weigh alike. */
const LEAST_RESIDUAL = 0.02;
/** What a point of the warm-up weighs: two batches that lie a tenth beside the line. */
const PRIOR_WEIGHT = 2 / 0.1;
/** Batches as the warm-up predicts them that count beside the first ones, so that one slow batch does not. */
const PRIOR_BATCHES = 4;
/** Keeps what is divided by a class's median finite where its batches took no time. */
const LEAST_RATIO = 1e-3;
/** What a line predicts at least: below it is what no clock tells, and ratios stay finite. */
const LEAST_MS = 1e-3;

interface Line {
  readonly a: number;
  readonly b: number;
}

export class LatencyModel {
  readonly #capacityOf: (samples: number) => number;
  readonly #quantile: number;
  /** What was measured in the warm-up; without one, what the first batch suggests. */
  #prior: { readonly line: Line; readonly sizes: readonly number[] } | undefined;
  readonly #isWarm: boolean;
  #line: Line | undefined;
  /** The last batches, as a ring. */
  readonly #samples = new Float64Array(WINDOW);
  readonly #ms = new Float64Array(WINDOW);
  readonly #classes = new Uint8Array(WINDOW);
  #observed = 0;
  #inWindow = 0;
  readonly #factors = new Float64Array(CLASSES).fill(1);
  /** What a batch of the class takes at least: as long as any of the classes below it. */
  readonly #floorsMs = new Float64Array(CLASSES);
  readonly #counts = new Int32Array(CLASSES);
  /** The largest batch of each class, in samples; that of the class below where no batch is of the class. */
  readonly #largest: readonly number[];
  #version = 0;

  constructor({ capacityOf, quantile = 0.95, warmUp = [] }: LatencyOptions) {
    if (!(quantile > 0 && quantile < 1)) throw new RangeError(`a quantile of ${quantile}`);
    this.#capacityOf = capacityOf;
    this.#quantile = quantile;
    this.#largest = Array.from({ length: CLASSES }, (_, own) =>
      largestWithin((samples) => this.#classOf(samples), own, MOST_SAMPLES),
    );
    for (const { samples, ms } of warmUp) check(samples, ms);
    this.#isWarm = warmUp.length > 0;
    if (this.#isWarm) {
      this.#prior = priorOf(warmUp);
      this.#line = this.#prior.line;
      this.#makeFloors();
    }
  }

  /** Grows whenever predictions change. */
  get version(): number {
    return this.#version;
  }

  /** A batch of `samples` took `ms`. */
  observe(samples: number, ms: number): void {
    check(samples, ms);
    const place = this.#observed % WINDOW;
    this.#samples[place] = samples;
    this.#ms[place] = ms;
    this.#classes[place] = this.#classOf(samples);
    this.#observed++;
    this.#inWindow = Math.min(WINDOW, this.#inWindow + 1);
    if (this.#observed <= REFIT_EVERY || this.#observed % REFIT_EVERY === 0) this.#fit();
  }

  /** How long a batch of `samples` takes, in ms; never less than a smaller one. 0 until anything is known. */
  predictMs(samples: number): number {
    const line = this.#line;
    if (line === undefined) return 0;
    const own = this.#classOf(samples);
    return Math.max(at(this.#floorsMs, own), at(this.#factors, own) * (line.a + line.b * samples));
  }

  /** The largest batch that takes at most `ms`, in samples: 0 where none does, 2³¹ − 1 where nothing says that one is too large. */
  slaSamples(ms: number): number {
    return largestWithin((samples) => this.predictMs(samples), ms, MOST_SAMPLES);
  }

  /** Batches of one sample and of `most` as they usually are: the warm-up of a model like this one. None until anything is known. */
  usual(most: number): readonly Measured[] {
    const line = this.#line;
    return line === undefined ? [] : [1, most].map((samples) => ({ samples, ms: msOn(line, samples) }));
  }

  /** The lines of the classes that ran lately, smallest first. */
  fits(): readonly ClassFit[] {
    const line = this.#line;
    if (line === undefined) return [];
    return Array.from(this.#counts, (observations, own) => ({
      capacity: largestOf(own),
      a: at(this.#factors, own) * line.a,
      b: at(this.#factors, own) * line.b,
      observations,
    })).filter(({ observations }) => observations > 0);
  }

  #classOf(samples: number): number {
    const capacity = this.#capacityOf(samples);
    if (!(capacity > 1)) return 0;
    return Math.min(CLASSES - 1, Math.ceil(CLASSES_PER_DOUBLING * Math.log2(capacity)));
  }

  /** The ring's place of the batch `back` before the last one. */
  #place(back: number): number {
    return (this.#observed - 1 - back) % WINDOW;
  }

  #fit(): void {
    const last = this.#place(0);
    this.#prior ??= priorOf([{ samples: at(this.#samples, last), ms: at(this.#ms, last) }]);
    const prior = this.#prior;
    const before = this.#line ?? prior.line;
    if (this.#inWindow > RECENT) {
      const change = this.#middle(before, RECENT) / this.#middle(before, this.#inWindow);
      if (change > CHANGED || change < 1 / CHANGED) this.#inWindow = KEPT;
    }
    const level = this.#middle(before, this.#inWindow);
    const priorLevel = this.#middle(prior.line, this.#inWindow);
    let line: Line = scaled(before, level);
    for (let round = 0; round < ROUNDS; round++)
      line = this.#nearerLine(line, scaled(prior.line, priorLevel));
    this.#line = line;
    this.#makeFactors(line);
    this.#makeFloors();
  }

  /** The median of what the last `count` batches took, as multiples of a line. */
  #middle(line: Line, count: number): number {
    return quantileOf(this.#ratios(line, count), 0.5);
  }

  /** What the last `count` batches took, as multiples of a line; a few on the line beside the first ones. */
  #ratios(line: Line, count: number): Float64Array {
    const ratios = new Float64Array(count + (this.#isWarm && count < REFIT_EVERY ? PRIOR_BATCHES : 0)).fill(
      1,
    );
    for (let back = 0; back < count; back++) ratios[back] = this.#ratio(line, this.#place(back));
    return ratios;
  }

  #ratio(line: Line, place: number): number {
    return at(this.#ms, place) / msOn(line, at(this.#samples, place));
  }

  /** A round towards the line of the least sum of |residual| / line: least squares, each weighed by what `line` leaves of it. */
  #nearerLine(line: Line, prior: Line): Line {
    let [weights, n, nn, t, nt] = [0, 0, 0, 0, 0];
    const add = (samples: number, ms: number, weight: number) => {
      weights += weight;
      n += weight * samples;
      nn += weight * samples * samples;
      t += weight * ms;
      nt += weight * samples * ms;
    };
    for (let back = 0; back < this.#inWindow; back++) {
      const place = this.#place(back);
      const [samples, ms] = [at(this.#samples, place), at(this.#ms, place)];
      const onLine = msOn(line, samples);
      add(samples, ms, 1 / (onLine * Math.max(Math.abs(ms - onLine), LEAST_RESIDUAL * onLine)));
    }
    for (const samples of this.#prior?.sizes ?? [])
      add(samples, msOn(prior, samples), PRIOR_WEIGHT / msOn(line, samples) ** 2);
    const spread = weights * nn - n * n;
    // All of one size, as the prior: its share of fixed cost stays.
    if (!(spread > 1e-9 * weights * nn)) return line;
    const b = (weights * nt - n * t) / spread;
    const a = (t - b * n) / weights;
    if (b < 0) return { a: t / weights, b: 0 };
    return a < 0 ? { a: 0, b: nt / nn } : { a, b };
  }

  /** A class's factor: its median beside the line, times the spread that batches of all classes have around their medians. */
  #makeFactors(line: Line): void {
    const all = this.#ratios(line, this.#inWindow);
    const perClass = new Map<number, number[]>();
    for (let back = 0; back < this.#inWindow; back++) {
      const own = at(this.#classes, this.#place(back));
      const ratios = perClass.get(own);
      if (ratios === undefined) perClass.set(own, [at(all, back)]);
      else ratios.push(at(all, back));
    }
    this.#counts.fill(0);
    const middles = new Map<number, number>();
    for (const [own, ratios] of perClass) {
      this.#counts[own] = ratios.length;
      if (ratios.length < LEAST_OF_CLASS) continue;
      middles.set(own, Math.max(LEAST_RATIO, quantileOf(Float64Array.from(ratios), 0.5)));
    }
    for (let back = 0; back < this.#inWindow; back++) {
      const middle = middles.get(at(this.#classes, this.#place(back))) ?? 1;
      all[back] = at(all, back) / middle;
    }
    const quantile = quantileOf(all, this.#quantile);
    // A few batches say too little of their spread to go below the line.
    const spread = this.#inWindow < REFIT_EVERY ? Math.max(1, quantile) : quantile;
    this.#factors.fill(spread);
    for (const [own, middle] of middles) this.#factors[own] = middle * spread;
  }

  #makeFloors(): void {
    this.#version++;
    const line = this.#line ?? { a: 0, b: 0 };
    for (let own = 1; own < CLASSES; own++) {
      const below = own - 1;
      const largest = at(this.#largest, below);
      const isEmpty = below > 0 && largest === at(this.#largest, below - 1);
      const largestMs = isEmpty ? 0 : at(this.#factors, below) * (line.a + line.b * largest);
      this.#floorsMs[own] = Math.max(at(this.#floorsMs, below), largestMs);
    }
  }
}

/** The largest n from 0 to `most` with msOf(n) ≤ `ms`; 0 where even 1 takes longer. `msOf` must not fall as n grows. */
export function largestWithin(msOf: (samples: number) => number, ms: number, most: number): number {
  if (msOf(most) <= ms) return most;
  let [within, beyond] = [0, most];
  for (let step = 1; step < most && msOf(step) <= ms; step *= 2) within = step;
  if (within > 0) beyond = Math.min(most, 2 * within);
  else return 0;
  while (beyond - within > 1) {
    const middle = Math.floor((within + beyond) / 2);
    if (msOf(middle) <= ms) within = middle;
    else beyond = middle;
  }
  return within;
}

/** Half of what a single size takes is taken as fixed: it errs on both sides by at most 2. */
function priorOf(measured: readonly Measured[]): { line: Line; sizes: readonly number[] } {
  const sizes = [...new Set(measured.map(({ samples }) => samples))].sort((a, b) => a - b);
  const least = (size: number) =>
    Math.max(LEAST_MS, Math.min(...measured.filter(({ samples }) => samples === size).map(({ ms }) => ms)));
  const [first, last] = [at(sizes, 0), at(sizes, sizes.length - 1)];
  const [firstMs, lastMs] = [least(first), least(last)];
  const b =
    first === last ? firstMs / 2 / Math.max(1, first) : Math.max(0, lastMs - firstMs) / (last - first);
  const a = firstMs - b * first;
  const line = a < 0 ? { a: 0, b: lastMs / last } : { a, b };
  return { line, sizes: first === last ? [first, 16 * Math.max(1, first)] : [first, last] };
}

function check(samples: number, ms: number): void {
  if (!(samples >= 0 && ms >= 0 && ms < Number.POSITIVE_INFINITY))
    throw new RangeError(`a batch of ${samples} samples took ${ms} ms`);
}

const scaled = (line: Line, by: number): Line => ({ a: line.a * by, b: line.b * by });
const msOn = ({ a, b }: Line, samples: number) => Math.max(LEAST_MS, a + b * samples);
const largestOf = (own: number) => Math.floor(2 ** (own / CLASSES_PER_DOUBLING));

/** The value at a quantile, without interpolation: of few values, the largest never counts. Sorts `values`. */
function quantileOf(values: Float64Array, quantile: number): number {
  return at(values.sort(), Math.floor(quantile * (values.length - 1)));
}
