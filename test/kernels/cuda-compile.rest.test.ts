/** Every CUDA kernel compiles for every architecture, where there is nvcc, into what the variants promise. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ARCHITECTURES, compileWithNvcc, type Resources, refuseNvcc } from '../../scripts/nvcc.ts';
import {
  CROSS_ARCHITECTURE,
  CROSS_COLUMNS,
  CROSS_FACTORS,
  crossProductSource,
} from '../../src/backend/cuda/dense/cross-product.ts';
import { denseSources } from '../../src/backend/cuda/dense/dense-source.ts';
import { type FusedVariant, fusedSource } from '../../src/backend/cuda/embedding/fused-source.ts';
import {
  PLAIN_VARIANT,
  type StandardBagVariant,
  sharedBytes,
  standardBagSource,
  tableBagSource,
  tableVariantId,
  variantId,
} from '../../src/backend/cuda/embedding/standard-source.ts';
import { UTILITY_KERNELS, utilitySource } from '../../src/backend/cuda/kernels/utilities.ts';
import { UNSCALED_PRECISIONS } from '../../src/device.ts';
import {
  ALL_VARIANTS,
  ARTIFACT_VARIANTS,
  COMBINED_VARIANTS,
  FUSED_VARIANTS,
  prefetching,
  SEMANTIC_VARIANTS,
} from '../support/cuda-variants.ts';

const skip = refuseNvcc();

/** All that the tests of the emulator run, less most of the combinations. */
const VARIANTS = ALL_VARIANTS.filter((variant) => {
  const place = COMBINED_VARIANTS.indexOf(variant);
  return place === -1 || place % 5 === 0;
});

/** Where all of the above are compiled; the others take turns, of all but combinations: no source of these differs for them. */
const MAIN_ARCHITECTURE = 'sm_90';
const OTHERS = ARCHITECTURES.filter((architecture) => architecture !== MAIN_ARCHITECTURE);

const REGISTER_CAPS = [24, 32].flatMap((maxRegisters) =>
  [PLAIN_VARIANT, prefetching('registers', 16), prefetching('pipelined', 8)].map((variant) => ({
    ...variant,
    maxRegisters,
  })),
);
const ARTIFACT_CAPS = [32, 42].map((maxRegisters) => ({ ...PLAIN_VARIANT, maxRegisters }));
const FUSED_CAP = 64;
const CAPPED_FUSED = fusedSource({
  ...(FUSED_VARIANTS[0] as FusedVariant),
  flight: { rows: 16, pipelined: false },
  maxRegisters: FUSED_CAP,
});
const artifactSource = (variant: StandardBagVariant) => tableBagSource('artifact', variant);

for (const architecture of ARCHITECTURES) {
  const isMain = architecture === MAIN_ARCHITECTURE;
  const isInTurn = (_: unknown, i: number) => isMain || i % OTHERS.length === OTHERS.indexOf(architecture);
  const variants = VARIANTS.filter((variant) => isMain || !COMBINED_VARIANTS.includes(variant)).filter(
    isInTurn,
  );
  const artifact = ARTIFACT_VARIANTS.filter(
    (variant, i) =>
      isMain || variant === PLAIN_VARIANT || i % (2 * OTHERS.length) === OTHERS.indexOf(architecture),
  );
  const fusedVariants = FUSED_VARIANTS.filter(isInTurn);
  const kernels = [...variants.map(standardBagSource), ...UTILITY_KERNELS.map(utilitySource)];
  const dense = UNSCALED_PRECISIONS.flatMap((precision, p) => {
    const own = denseSources(precision, architecture !== 'sm_80');
    // Kernels that sm_80 lacks have no other turn.
    return isInTurn(precision, p) ? own : own.filter(({ id }) => id.startsWith('dot_samples'));
  });
  let all: Promise<ReadonlyMap<string, Resources>> | undefined;

  /** Compiles everything for the architecture, once. @returns what a kernel of it takes. */
  async function compile(): Promise<(kernel: string) => Resources> {
    all ??= compileWithNvcc(
      [
        ...kernels,
        ...REGISTER_CAPS.map(standardBagSource),
        ...[...artifact, ...ARTIFACT_CAPS].map(artifactSource),
        ...fusedVariants.map(fusedSource),
        CAPPED_FUSED,
        ...dense,
      ],
      architecture,
    );
    const compiled = await all;
    return (kernel) => compiled.get(kernel) as Resources;
  }

  test(`kernels for ${architecture}`, { skip }, async () => {
    const resourcesOf = await compile();
    for (const { kernel, id } of kernels) assert.ok(resourcesOf(kernel).registers > 0, id);
    for (const variant of variants) {
      const id = variantId(variant);
      const resources = resourcesOf(standardBagSource(variant).kernel);
      assert.equal(resources.sharedBytes, sharedBytes(variant), `${id}: shared memory`);
      // Prefetch into local memory must really go there, and nothing else.
      const slotBytes = variant.prefetch?.into === 'local' ? 64 : 0;
      assert.ok(resources.stackBytes >= slotBytes, `${id}: local memory`);
      assert.ok(resources.stackBytes <= slotBytes + 32, `${id}: ${resources.stackBytes} bytes of stack`);
    }
    // Without prefetch: no spills, and so few registers that nothing but the hardware's own limit keeps warps away.
    for (const variant of variants.filter((variant) => SEMANTIC_VARIANTS.includes(variant))) {
      const { kernel, id } = standardBagSource(variant);
      const { registers, spilledBytes } = resourcesOf(kernel);
      assert.equal(spilledBytes, 0, `${id} spills without a cap`);
      assert.ok(registers <= 32, `${id}: ${registers} registers`);
    }
  });

  test(`the artifact's kernels for ${architecture}`, { skip }, async () => {
    const resourcesOf = await compile();
    for (const variant of artifact) {
      const { registers, sharedBytes: shared } = resourcesOf(artifactSource(variant).kernel);
      assert.ok(registers > 0);
      assert.equal(shared, sharedBytes(variant), tableVariantId('artifact', variant));
    }
    // What a register cap has to restore: the paper's kernel has 46 registers or about on sm_90, and everywhere too many for all warps.
    const plain = resourcesOf(artifactSource(PLAIN_VARIANT).kernel);
    const [least, most] = architecture === 'sm_90' ? [40, 48] : [33, 64];
    assert.ok(plain.registers >= least && plain.registers <= most, `${plain.registers} registers`);
    assert.equal(plain.spilledBytes, 0);
    for (const variant of ARTIFACT_CAPS) {
      const { id, kernel } = artifactSource(variant);
      assert.ok(resourcesOf(kernel).registers <= variant.maxRegisters, id);
    }
  });

  test(`fused kernels for ${architecture}`, { skip }, async () => {
    const resourcesOf = await compile();
    for (const variant of fusedVariants) {
      const { kernel, id } = fusedSource(variant);
      const { registers, spilledBytes } = resourcesOf(kernel);
      assert.ok(registers > 0, id);
      // The shapes that are served most, without what is rare: as many warps as keep the memory busy.
      if (variant.kinds.length > 1 || variant.splits) continue;
      // A few words of what loops do not need, where that doubles the warps.
      assert.ok(spilledBytes <= 40, `${id} spills ${spilledBytes} bytes`);
      const most = variant.flight.pipelined ? 96 : 80;
      assert.ok(registers <= most, `${id}: ${registers} registers`);
    }
    assert.ok(resourcesOf(CAPPED_FUSED.kernel).registers <= FUSED_CAP, CAPPED_FUSED.id);
  });

  test(`register caps hold for ${architecture}`, { skip }, async () => {
    const resourcesOf = await compile();
    for (const variant of REGISTER_CAPS) {
      const { id, kernel } = standardBagSource(variant);
      assert.ok(resourcesOf(kernel).registers <= variant.maxRegisters, id);
    }
  });

  test(`dense kernels for ${architecture}`, { skip }, async () => {
    const resourcesOf = await compile();
    for (const { kernel, id } of dense) {
      const { registers, spilledBytes } = resourcesOf(kernel);
      assert.ok(registers > 0, id);
      // Sums live in registers, and two blocks of the largest tile on a multiprocessor: a few words spill.
      assert.ok(spilledBytes <= 128, `${id} spills ${spilledBytes} bytes`);
    }
  });
}

test(`cross products for ${CROSS_ARCHITECTURE}`, { skip }, async () => {
  const kernels = CROSS_FACTORS.flatMap((factors) =>
    CROSS_COLUMNS.map((columns) => crossProductSource(factors, columns)),
  );
  const compiled = await compileWithNvcc(kernels, CROSS_ARCHITECTURE);
  for (const { kernel, id } of kernels) {
    const { stackBytes, spilledBytes } = compiled.get(kernel) as Resources;
    // Sums, and what their end reads, live in registers.
    assert.equal(stackBytes + spilledBytes, 0, id);
  }
});
