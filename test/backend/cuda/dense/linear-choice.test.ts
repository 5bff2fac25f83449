/** How a linear layer may be computed, and how the dense kernels are launched: pure, without a device. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import {
  canMakeSamples,
  DOT_TILES,
  denseModule,
  denseSources,
  directLaunch,
  dotLaunch,
  dotSamplesLaunch,
  dotSharedBytes,
  dotTile,
  isMadeOfSamples,
  packLaunch,
} from '../../../../src/backend/cuda/dense/dense-source.ts';
import {
  addressAlignment,
  mayBeDirect,
  roundingSplits,
  tailSplits,
} from '../../../../src/backend/cuda/dense/linear-choice.ts';
import { UNSCALED_PRECISIONS } from '../../../../src/device.ts';

test('the library does bias and ReLU; a kernel does the rest, and all of it when the library does not', () => {
  const splits = (activation: 'none' | 'relu' | 'sigmoid', biased: boolean, crossed = false) =>
    tailSplits({ activation, biased, crossed, scaled: false }).map(
      ({ epilogue, finished }) => `${epilogue}${finished ? ' + kernel' : ''}`,
    );
  assert.deepEqual(splits('none', false), ['none']);
  assert.deepEqual(splits('none', true), ['bias', 'none + kernel']);
  assert.deepEqual(splits('relu', false), ['relu', 'none + kernel']);
  assert.deepEqual(splits('relu', true), ['reluBias', 'none + kernel']);
  for (const biased of [false, true]) {
    assert.deepEqual(splits('sigmoid', biased), ['none + kernel']);
    assert.deepEqual(splits('none', biased, true), ['none + kernel']);
  }
});

test('scales of 8-bit factors are the library’s, or else the kernel’s', () => {
  const splits = (activation: 'none' | 'relu', crossed = false) =>
    tailSplits({ activation, biased: true, crossed, scaled: true }).map(
      ({ epilogue, finished, scaled }) =>
        `${scaled ? 'scales, ' : ''}${epilogue}${finished ? ' + kernel' : ''}`,
    );
  assert.deepEqual(splits('relu'), ['scales, reluBias', 'scales, none + kernel', 'none + kernel']);
  assert.deepEqual(splits('none', true), ['scales, none + kernel', 'none + kernel']);
});

test('outputs in 8 bits alone are the library’s to make, where it does all there is to do', () => {
  const splits = (activation: 'none' | 'relu' | 'sigmoid', { crossed = false, scaled = true } = {}) =>
    roundingSplits({ activation, biased: true, crossed, scaled });
  const split = { finished: false, scaled: true, rounds: true };
  assert.deepEqual(splits('relu'), [{ ...split, epilogue: 'reluBias' }]);
  assert.deepEqual(splits('none'), [{ ...split, epilogue: 'bias' }]);
  assert.deepEqual(splits('sigmoid'), []);
  assert.deepEqual(splits('none', { crossed: true }), []);
  assert.deepEqual(splits('relu', { scaled: false }), []);
});

test('few samples or few outputs may be direct', () => {
  assert.deepEqual(
    [mayBeDirect(1, 4096), mayBeDirect(2048, 1), mayBeDirect(8, 9), mayBeDirect(9, 9)],
    [true, true, true, false],
  );
});

test('alignment of addresses', () => {
  assert.deepEqual([0n, 16n, 256n, 4n, 12n, 8n, 24n, 2n].map(addressAlignment), [16, 16, 16, 4, 4, 8, 8, 2]);
});

test('tiles cover the triangle', () => {
  assert.deepEqual([1, 32, 33, 64, 65, 128, 129, 251].map(dotTile), [32, 32, 64, 64, 128, 128, 128, 128]);
  assert.deepEqual(dotLaunch(10, 27), { grid: [10, 1, 1], block: [32, 1, 1], dynamicSharedBytes: 12288 });
  assert.deepEqual(dotLaunch(10, 251).grid, [30, 1, 1]);
  assert.deepEqual(dotLaunch(10, 257).grid, [60, 1, 1]);
  assert.equal(dotLaunch(1, 128).dynamicSharedBytes, 49152);
  assert.equal(dotLaunch(1, 129).dynamicSharedBytes, dotSharedBytes(128));
});

test('the launch agrees with the kernel', () => {
  const header = readFileSync(
    new URL('../../../../kernels/cuda/dot_interaction.cuh', import.meta.url),
    'utf8',
  );
  const constant = (name: string) => Number(new RegExp(`constexpr int ${name} = (\\d+);`).exec(header)?.[1]);
  for (const tile of DOT_TILES) {
    assert.equal(dotSharedBytes(tile, true), constant('stages') * tile * constant('chunk_words') * 4);
    // Tile by tile, rows of sums go through the shared memory that the chunks were in: per warp, with padding.
    const { block } = dotLaunch(1, tile);
    const staged = (block[0] / 32) * constant('half_rows') * (Math.min(tile, 64) + 8) * 4;
    assert.ok(staged <= dotSharedBytes(tile, true), `tile ${tile}`);
  }
});

test('whole samples: where they are made, and the launch', () => {
  const hopper = { computeCapability: [9, 0], sharedBytesPerBlockOptIn: 232448 } as const;
  assert.equal(canMakeSamples(hopper), true);
  assert.equal(canMakeSamples({ ...hopper, computeCapability: [8, 0] }), false);
  assert.equal(canMakeSamples({ computeCapability: [12, 0], sharedBytesPerBlockOptIn: 101376 }), false);
  assert.deepEqual(
    [128, 129, 256, 257].map((features) => isMadeOfSamples({ batch: 33, features, dim: 128 }, 4, 132)),
    [false, true, true, false],
  );
  const shaped = { batch: 33, features: 251, dim: 128 };
  assert.equal(isMadeOfSamples({ ...shaped, dim: 0 }, 4, 132), false);
  assert.equal(isMadeOfSamples(shaped, 1, 132), false);
  assert.equal(isMadeOfSamples({ ...shaped, batch: 32 }, 4, 132), false);
  const header = readFileSync(new URL('../../../../kernels/cuda/dot_samples.cuh', import.meta.url), 'utf8');
  const constant = (name: string) => Number(new RegExp(`constexpr int ${name} = (\\d+);`).exec(header)?.[1]);
  const pairs = (251 * 250) / 2;
  assert.deepEqual(dotSamplesLaunch(2048, pairs, 132), {
    grid: [132, 1, 1],
    block: [constant('sample_threads'), 1, 1],
    dynamicSharedBytes: 3 * constant('most_features') * 128 + 16 * Math.ceil((pairs + 3) / 4),
  });
  assert.equal(dotSamplesLaunch(7, pairs, 132).grid[0], 7);
  // Half the bytes, with room for as many elements in front as 16 bytes have, less one.
  assert.equal(
    dotSamplesLaunch(7, pairs + 1, 132, 'float16').dynamicSharedBytes,
    3 * constant('most_features') * 128 + 16 * Math.ceil((pairs + 1 + 7) / 8),
  );
});

test('launches over packs and sums cover them', () => {
  for (const [rows, columns, width] of [
    [1, 1, 1],
    [2048, 1, 1],
    [7, 33, 1],
    [5, 4096, 4],
    [1e6, 128, 4],
  ] as const) {
    const { grid, block } = packLaunch(rows, columns, width);
    const [x, y] = block;
    assert.equal(x * y, 256);
    const chunks = rows * Math.ceil(columns / width / x);
    assert.ok(grid[0] >= 1 && (grid[0] * y >= chunks || grid[0] === 65536), `${rows} × ${columns}`);
  }
  assert.equal(directLaunch(3, 5).grid[0], 2);
});

test('every kernel of a precision is in its module, once', () => {
  for (const precision of UNSCALED_PRECISIONS) {
    for (const makesSamples of [false, true]) {
      const sources = denseSources(precision, makesSamples);
      const { source } = denseModule(precision, makesSamples);
      assert.equal(new Set(sources.map(({ id }) => id)).size, sources.length, precision);
      for (const { kernel } of sources) assert.equal(source.split(` ${kernel}(`).length, 2, kernel);
      assert.equal(source.includes('dot_samples'), makesSamples);
    }
  }
  assert.equal(new Set(UNSCALED_PRECISIONS.map((precision) => denseModule(precision, true).id)).size, 4);
});
