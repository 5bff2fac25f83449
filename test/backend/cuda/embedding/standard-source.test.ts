/** Variants as data: ids, legality, launches, occupancy. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  type FusedKind,
  type FusedVariant,
  fusedId,
  fusedShape,
  fusedSource,
  refuseFused,
} from '../../../../src/backend/cuda/embedding/fused-source.ts';
import { fusedVariant } from '../../../../src/backend/cuda/embedding/plan-kernels.ts';
import {
  coveringGrid,
  PLAIN_VARIANT,
  refuseLaunch,
  refuseVariant,
  sharedBytes,
  standardBagSource,
  variantId,
} from '../../../../src/backend/cuda/embedding/standard-source.ts';
import type { RowFormat } from '../../../../src/embedding/bag.ts';
import { capForWarps, warpsPerMultiprocessor } from '../../../../src/plan/occupancy.ts';
import {
  type CudaPlan,
  plainPlan,
  withGroup,
  withKernel,
  withTechniques,
} from '../../../../src/plan/plan.ts';
import {
  ALL_VARIANTS,
  FUSED_VARIANTS,
  PREFETCH_VARIANTS,
  prefetching,
} from '../../../support/cuda-variants.ts';

test('ids name what is on, and no two variants share one', () => {
  assert.equal(variantId(PLAIN_VARIANT), 'standard_bag.f32.i64.o64.sum');
  assert.equal(
    variantId({ ...prefetching('registers', 8), maxRegisters: 64 }),
    'standard_bag.f32.i64.o64.sum.rpf8.cap64',
  );
  const everything = {
    ...prefetching('shared', 10),
    rowFormat: 'bfloat16',
    index: 'int32',
    weights: 'row',
    padding: true,
    pruned: true,
    repair: true,
    wideRows: true,
    threads: 128,
  } as const;
  assert.equal(
    variantId(everything),
    'standard_bag.bf16.i32.o64.sum.wrow.pad.pruned.repair.wide.smpf10.t128',
  );
  assert.equal(new Set(ALL_VARIANTS.map(variantId)).size, ALL_VARIANTS.length);
  const kernels = ALL_VARIANTS.map((variant) => standardBagSource(variant).kernel);
  assert.equal(new Set(kernels).size, ALL_VARIANTS.length);
  for (const kernel of kernels) assert.match(kernel, /^[a-z0-9_]+$/);
});

test('what a variant must not be', () => {
  for (const variant of ALL_VARIANTS) assert.equal(refuseVariant(variant), undefined, variantId(variant));
  for (const distance of [0, 17, -1, 1.5, Number.NaN]) {
    assert.match(refuseVariant(prefetching('registers', distance)) as string, /distance is 1 to 16/);
  }
  assert.match(
    refuseVariant({ ...PLAIN_VARIANT, pooling: 'mean', weights: 'sample' }) as string,
    /weights need sum/,
  );
  for (const threads of [0, 1025, 33.5])
    assert.match(refuseVariant({ ...PLAIN_VARIANT, threads }) as string, /1 to 1024 threads/);
  for (const maxRegisters of [15, 256, 40.5]) {
    assert.match(refuseVariant({ ...PLAIN_VARIANT, maxRegisters }) as string, /cap is 16 to 255/);
  }
  const large = { ...prefetching('shared', 16), threads: 1024 };
  assert.equal(sharedBytes(large), 65536);
  assert.match(refuseVariant(large) as string, /65536 bytes of shared memory, a block has 49152/);
  assert.equal(refuseVariant({ ...large, prefetch: { into: 'shared', distance: 12 } }), undefined);
  assert.equal(refuseVariant({ ...large, prefetch: { into: 'registers', distance: 16 } }), undefined);
  assert.throws(() => standardBagSource(large), TypeError);
});

test('what a launch must not be', () => {
  const launch = { dim: 128, batch: 2048, lookups: 307200, rows: 500_000, block: { x: 32, y: 8 } };
  assert.equal(refuseLaunch(PLAIN_VARIANT, launch), undefined);
  assert.equal(coveringGrid(launch), 1024);
  assert.equal(coveringGrid({ ...launch, dim: 129, batch: 3 }), 2);
  assert.equal(coveringGrid({ ...launch, batch: 0 }), 1);
  assert.match(
    refuseLaunch(PLAIN_VARIANT, { ...launch, block: { x: 64, y: 8 } }) as string,
    /more than the 256 threads/,
  );
  assert.match(
    refuseLaunch(PLAIN_VARIANT, { ...launch, lookups: 2 ** 31 }) as string,
    /lookups in one table/,
  );
  assert.match(refuseLaunch(PLAIN_VARIANT, { ...launch, batch: 2 ** 29 }) as string, /too large/);
  assert.equal(refuseLaunch(PLAIN_VARIANT, { ...launch, rows: 2 ** 31 }), undefined);
  assert.match(refuseLaunch(PLAIN_VARIANT, { ...launch, rows: 2 ** 31 + 1 }) as string, /wide-rows/);
  assert.equal(refuseLaunch({ ...PLAIN_VARIANT, wideRows: true }, { ...launch, rows: 2 ** 33 }), undefined);
});

test('registers and warps', () => {
  const warps = (registers: number, threads = 256) => warpsPerMultiprocessor({ registers, threads });
  assert.deepEqual(
    [20, 32, 33, 40, 46, 48, 64, 128, 255].map((registers) => warps(registers)),
    [64, 64, 48, 48, 40, 40, 32, 16, 8],
  );
  assert.equal(
    warpsPerMultiprocessor({
      registers: 32,
      threads: 256,
      sharedBytes: 16384,
      sharedBytesPerMultiprocessor: 65536,
    }),
    32,
  );
  assert.deepEqual(
    [64, 48, 40, 32, 24, 16, 8].map((target) => capForWarps(target, 256)),
    [32, 40, 48, 64, 80, 128, 248],
  );
  assert.equal(capForWarps(65, 256), undefined);
  for (let target = 1; target <= 64; target++) {
    const cap = capForWarps(target, 256) as number;
    assert.ok(warps(cap) >= target);
    assert.ok(cap === 248 || warps(cap + 8) < target);
  }
});

test('a cap is a compiler option, and takes the place of launch bounds', () => {
  const capped = standardBagSource({ ...PLAIN_VARIANT, maxRegisters: 32 });
  assert.deepEqual(capped.options, ['--maxrregcount=32']);
  assert.doesNotMatch(capped.source, /__launch_bounds__/);
  const plain = standardBagSource(PLAIN_VARIANT);
  assert.deepEqual(plain.options, []);
  assert.match(plain.source, /__launch_bounds__\(256\) hotrow_standard_bag_f32_i64_o64_sum\(/);
});

test('fused variants: what is refused, and what the compiler gets', () => {
  const [fused] = FUSED_VARIANTS as [FusedVariant];
  assert.equal(refuseFused(fused), undefined);
  for (const [change, reason] of [
    [{ flight: { rows: 6, pipelined: false } }, /power of two/],
    [{ flight: { rows: 64, pipelined: true } }, /1 to 32/],
    [{ threads: 48 }, /whole warps/],
    [{ threads: 2048 }, /up to 1024/],
    [{ maxRegisters: 12 }, /register cap/],
  ] as const) {
    assert.match(refuseFused({ ...fused, ...change }) as string, reason);
    assert.throws(() => fusedSource({ ...fused, ...change }), TypeError);
  }
  assert.equal(new Set(FUSED_VARIANTS.map(fusedId)).size, FUSED_VARIANTS.length);
  const capped = fusedSource({ ...fused, maxRegisters: 64 });
  assert.deepEqual(capped.options, ['--maxrregcount=64']);
  assert.doesNotMatch(capped.source, /__launch_bounds__/);
});

test('lanes, tiles and widths of rows', () => {
  const shape = (rowFormat: RowFormat, dim: number) => fusedShape({ rowFormat, dim });
  assert.deepEqual(shape('float32', 128), { lanes: 32, tiles: 1, tileElements: 128 });
  assert.deepEqual(shape('float16', 128), { lanes: 16, tiles: 1, tileElements: 128 });
  assert.deepEqual(shape('float32', 16), { lanes: 4, tiles: 1, tileElements: 16 });
  assert.deepEqual(shape('float32', 1024), { lanes: 32, tiles: 2, tileElements: 512 });
  assert.deepEqual(shape('float16', 33), { lanes: 32, tiles: 1, tileElements: 64 });
  assert.deepEqual(shape('bfloat16', 1), { lanes: 1, tiles: 1, tileElements: 1 });
});

test('lanes of a plan: for all tables or a group of them, not for short bags', () => {
  const kinds = FUSED_VARIANTS.find((variant) => variant.kinds.length > 3)?.kinds as FusedKind[];
  const plan = withTechniques(withKernel(plainPlan('cuda'), 'fused'), { lanes: { bytes: 8 } });
  const laneBytes = (of: CudaPlan, several: boolean) =>
    fusedVariant(of, kinds, { checking: 'error' }, { splits: false, several }).kinds.map(
      (kind) => kind.laneBytes,
    );
  assert.deepEqual(new Set(laneBytes(plan, false)), new Set([8]));
  assert.deepEqual(new Set(laneBytes(plan, true)), new Set([undefined]));
  const { dim, rowFormat } = kinds[1] as FusedKind;
  const grouped = withGroup(plan, { dim, rowFormat, techniques: { lanes: { bytes: 4 } } });
  const expected = kinds.map((kind) => (kind.dim === dim && kind.rowFormat === rowFormat ? 4 : 8));
  assert.deepEqual(laneBytes(grouped, false), expected);
});

test('every prefetch has variants', () => assert.equal(PREFETCH_VARIANTS.length, 40));
