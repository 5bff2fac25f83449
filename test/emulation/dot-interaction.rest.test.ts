/** The dot interaction on the host, against the reference: every precision, shape, alignment. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { at } from '../../src/at.ts';
import { DotInteractionParams } from '../../src/backend/cuda/dense/dense-params.ts';
import {
  dotInteractionSource,
  dotLaunch,
  dotSamplesLaunch,
  dotSamplesSource,
  dotTile,
  factorBits,
  isMadeOfSamples,
  type PackWidth,
  widestPack,
} from '../../src/backend/cuda/dense/dense-source.ts';
import { interactionPairs, referenceDotInteraction } from '../../src/dense/reference.ts';
import { activationFormat, UNSCALED_PRECISIONS, type UnscaledPrecision } from '../../src/device.ts';
import { assertSameValues, assertWithin, FLOAT32_ROUNDING } from '../support/compare.ts';
import { roundedTo, roundingOf } from '../support/elements.ts';
import { Random } from '../support/random.ts';
import { type Emulator, refuseEmulation } from './emulator.ts';
import { emulateDense, framed, HostMatrix, launch, widthsFor } from './host-matrix.ts';

const skip = refuseEmulation();
let emulator: Emulator;

before(async () => {
  if (skip === undefined) emulator = await emulateDense(/^dot/);
});

/** The most that one rounding of a factor changes it by, of its size. */
const factorRounding = (precision: UnscaledPrecision) =>
  precision === 'float32' ? 0 : 2 ** -factorBits(precision);

interface DotCase {
  readonly batch: number;
  readonly features: number;
  readonly dim: number;
  readonly diagonal: boolean;
  readonly order: 'lower' | 'upper';
}

function dotOnDevice(
  precision: UnscaledPrecision,
  { batch, features, dim, diagonal, order }: DotCase,
  input: Float32Array,
  width: PackWidth,
  backwards: boolean,
  /** In whole samples, by so many blocks, to an output of this alignment; else in tiles. */
  samples?: { readonly blocks: number; readonly offset: number; readonly stride: number },
  padding = 0,
): Float32Array {
  const pairs = interactionPairs(features, diagonal, order).length;
  const format = activationFormat(precision);
  const z = framed(width, batch, features * dim, input, format);
  const [stride, offset] = samples === undefined ? [3, 1] : [samples.stride, samples.offset];
  const output = new HostMatrix(batch, pairs, pairs + padding + stride, offset, undefined, format);
  const params = DotInteractionParams.encode({
    input: z.address,
    inputStride: z.stride,
    features,
    dim,
    diagonal: diagonal ? 1 : 0,
    upper: order === 'upper' ? 1 : 0,
    output: output.address,
    outputStride: output.stride,
    batch,
    padding,
  });
  const [{ kernel }, shape] =
    samples === undefined
      ? [dotInteractionSource(precision, dotTile(features), width), dotLaunch(batch, features)]
      : [dotSamplesSource(precision), dotSamplesLaunch(batch, pairs + padding, samples.blocks, format)];
  launch(emulator, kernel, shape, params, [z.array], [output.array], backwards);
  return output.values(padding);
}

/** Zeros behind the pairs that a case asks for. */
const paddingOf = (precision: UnscaledPrecision, i: number) =>
  activationFormat(precision) === 'float32' ? 0 : (i * 3) % 8;

/** What a sum of integers, exact in float32, is in the output. */
const stored = (precision: UnscaledPrecision, sums: Float64Array) =>
  sums.map((x) => roundedTo(activationFormat(precision), x) + 0);

const ORDERS = [
  ['lower', false],
  ['lower', true],
  ['upper', false],
  ['upper', true],
] as const;

for (const precision of UNSCALED_PRECISIONS) {
  test(`dot interaction, ${precision}: exact on integers, every shape`, { skip }, () => {
    const random = new Random(1);
    const shapes = [
      ...[1, 2, 3, 8, 9, 27, 32].flatMap((features) =>
        [1, 4, 7, 32, 33, 68].map((dim) => [features, dim] as const),
      ),
      ...([
        [33, 5],
        [64, 36],
        [65, 16],
        [128, 3],
        [129, 8],
        [160, 4],
      ] as const),
    ];
    shapes.forEach(([features, dim], s) => {
      ORDERS.forEach(([order, diagonal], o) => {
        const problem = { batch: 1 + ((s + o) % 2), features, dim, diagonal, order };
        const input = random.integers(problem.batch * features * dim, 8);
        const expected = referenceDotInteraction({ ...problem, input });
        for (const width of widthsFor(dim, activationFormat(precision))) {
          const padding = paddingOf(precision, s + o);
          const out = dotOnDevice(precision, problem, input, width, (s + o) % 3 === 0, undefined, padding);
          const what = `${features} × ${dim}, ${order}${diagonal ? ' with diagonal' : ''}, width ${width}`;
          assertSameValues(
            out.map((x) => x + 0),
            stored(precision, expected),
            what,
          );
        }
      });
    });
  });

  test(`dot interaction, ${precision}: whole samples, exact on integers`, { skip }, () => {
    const random = new Random(6);
    // Squares of 64 features, the last one full, begun, or empty; chunks of 32 or 64 columns, more or fewer than the stages.
    for (const [s, [batch, features, dim, blocks]] of (
      [
        [1, 129, 8, 1],
        [3, 160, 40, 1],
        [2, 192, 64, 2],
        [3, 193, 136, 2],
        [5, 251, 8, 2],
        [2, 256, 104, 1],
      ] as const
    ).entries()) {
      ORDERS.forEach(([order, diagonal], o) => {
        const problem = { batch, features, dim, diagonal, order };
        assert.ok(isMadeOfSamples({ batch: 33, features, dim }, 4, 132));
        const input = random.integers(batch * features * dim, 8);
        const place = { blocks, offset: (s + o) % 4, stride: (s + 2 * o) % 5 };
        const padding = paddingOf(precision, s + o);
        const width = widestPack(activationFormat(precision));
        const out = dotOnDevice(precision, problem, input, width, (s + o) % 2 === 0, place, padding);
        const expected = referenceDotInteraction({ ...problem, input });
        const what = `${features} × ${dim}, ${order}${diagonal ? ' with diagonal' : ''}`;
        assertSameValues(
          out.map((x) => x + 0),
          stored(precision, expected),
          what,
        );
      });
    }
  });

  test(`dot interaction, ${precision}: reals, 27 and 251 features of 128`, { skip }, () => {
    const random = new Random(2);
    for (const features of [27, 251]) {
      const problem = { batch: 1, features, dim: 128, diagonal: false, order: 'lower' } as const;
      const input = random.reals(features * 128);
      const expected = referenceDotInteraction({ ...problem, input });
      const magnitude = referenceDotInteraction({ ...problem, input: input.map(Math.abs) });
      const width = widestPack(activationFormat(precision));
      const out = dotOnDevice(precision, problem, input, width, false);
      if (isMadeOfSamples({ batch: 33, features, dim: 128 }, 4, 132)) {
        const place = { blocks: 132, offset: 0, stride: 0 };
        assert.deepEqual(dotOnDevice(precision, problem, input, width, false, place), out, 'bit for bit');
      }
      // Both factors are rounded; then each of the products and sums, and the result.
      const bound = 2.1 * factorRounding(precision) + 129 * FLOAT32_ROUNDING;
      const format = activationFormat(precision);
      const boundOf = (i: number) => bound * at(magnitude, i) + 1.01 * roundingOf(format, at(expected, i));
      assertWithin(out, expected, boundOf, `${features} features`);
    }
  });
}

test('dot interaction: a NaN stays in its sample and its pairs', { skip }, () => {
  const random = new Random(3);
  for (const precision of UNSCALED_PRECISIONS) {
    for (const [features, samples] of [
      [40, undefined],
      [130, { blocks: 1, offset: 0, stride: 0 }],
    ] as const) {
      const problem = { batch: 3, features, dim: 8, diagonal: false, order: 'lower' } as const;
      const input = random.reals(3 * features * 8);
      input[features * 8 + 5 * 8 + 2] = Number.NaN;
      const width = widestPack(activationFormat(precision));
      const out = dotOnDevice(precision, problem, input, width, false, samples);
      const pairs = interactionPairs(features, false, 'lower');
      out.forEach((x, i) => {
        const [a, b] = pairs[i % pairs.length] as [number, number];
        const touched = Math.floor(i / pairs.length) === 1 && (a === 5 || b === 5);
        assert.equal(Number.isNaN(x), touched, `${precision}: sample and pair ${i}`);
      });
    }
  }
});
