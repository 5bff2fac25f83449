/** Every variant of the kernels that are launched table by table on a GPU, compiled by NVRTC, against the reference, bit for bit. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { StandardBagParams } from '../../src/backend/cuda/embedding/standard-params.ts';
import {
  coveringGrid,
  DEFAULT_BLOCK,
  type StandardBagVariant,
  type TableKernelFamily,
  tableBagSource,
  tableVariantId,
} from '../../src/backend/cuda/embedding/standard-source.ts';
import { TABLE_FAMILIES } from '../../src/backend/cuda/embedding/table-families.ts';
import { deviceRowBytes } from '../../src/backend/cuda/rows/row-layout.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDevices, cudaDriver } from '../../src/cuda/discover.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaModule } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import type { Bags, EmbeddingTable } from '../../src/embedding/bag.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { ParameterBlock } from '../../src/ffi/parameter-block.ts';
import { compileKernel } from '../../src/jit/compile-kernel.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { assertSameValues } from '../support/compare.ts';
import { bagsFor, deviceRows, everyLength, expectedOf, tableFor } from '../support/cuda-bags.ts';
import { ALL_VARIANTS, ARTIFACT_VARIANTS } from '../support/cuda-variants.ts';
import { Random } from '../support/random.ts';

const found = cudaDevices();
const reason = 'reason' in found ? found.reason : found.missing[0]?.reason.message;
const includeFolder = fileURLToPath(new URL('../../kernels/cuda', import.meta.url));

describe('kernels that are launched table by table, on a GPU', {
  skip: reason !== undefined && `no GPU: ${reason}`,
}, () => {
  if (reason !== undefined) return;
  const folder = mkdtempSync(join(tmpdir(), 'hotrow-gpu-'));
  const device = new CudaDevice(cudaDriver());
  const stream = new CudaStream(device);
  const compiler = new Nvrtc({ majorVersion: Math.floor(device.driver.version / 1000) });
  const cache = new KernelCache({ folder });
  after(() => {
    stream[Symbol.dispose]();
    assert.deepEqual(
      Object.values(device.live().counts).filter((count) => count > 0),
      [],
      'everything was given back',
    );
    device[Symbol.dispose]();
    rmSync(folder, { recursive: true });
  });

  /** A copy of a host array in device memory. */
  const place = (array: ArrayBufferView): DeviceMemory => {
    const memory = new DeviceMemory(device, array.byteLength);
    stream.copyToDevice(memory.address(), addressOf(array), array.byteLength);
    return memory;
  };

  async function pool(
    family: TableKernelFamily,
    variant: StandardBagVariant,
    table: EmbeddingTable,
    bags: Bags,
    batch: number,
  ): Promise<Float32Array> {
    const { dim, rows, rowWeights } = table;
    const source = tableBagSource(family, variant);
    const { cubin } = await compileKernel(
      { ...source, includeFolder, architecture: device.properties.architecture },
      { compiler, cache },
    );
    using module = new CudaModule(device, cubin);
    using weight = place(deviceRows(table));
    using indices = place(bags.indices);
    using offsets = place(bags.offsets);
    using weights = bags.weights === undefined ? undefined : place(bags.weights);
    using perRow = rowWeights === undefined ? undefined : place(rowWeights);
    // Poisoned: a NaN that stays was not written.
    const pooled = new Float32Array(batch * dim).fill(Number.NaN);
    using output = place(pooled);
    using offsetToBag = place(new BigInt64Array(bags.indices.length + 1));
    using bagSize = place(new BigInt64Array(batch + 1));
    const launch: StandardBagParams = {
      rows: weight.address(),
      rowStrideBytes: deviceRowBytes(table),
      rowCount: rows,
      dim,
      indices: indices.address(),
      offsets: offsets.address(),
      lookups: bags.indices.length,
      offsetCount: bags.offsets.length,
      weights: weights?.address() ?? 0n,
      rowWeights: perRow?.address() ?? 0n,
      paddingIndex: table.paddingIdx ?? -1,
      output: output.address(),
      outputStride: dim,
      batch,
      stop: 0n,
    };
    const notes = { offsetToBag: offsetToBag.address(), bagSize: bagSize.address() };
    const words = TABLE_FAMILIES[family].encode(launch, () => notes);
    const { x, y } = DEFAULT_BLOCK;
    const grid = coveringGrid({ dim, batch, block: DEFAULT_BLOCK });
    stream.launch(
      module.kernel(source.kernel),
      { grid: [grid, 1, 1], block: [x, y, 1], dynamicSharedBytes: 0 },
      new ParameterBlock(words),
    );
    stream.copyToHost(addressOf(pooled), output.address(), pooled.byteLength);
    await stream.finished();
    return pooled;
  }

  const kernels = [
    ...ALL_VARIANTS.map((variant) => ({ family: 'standard', variant }) as const),
    ...ARTIFACT_VARIANTS.map((variant) => ({ family: 'artifact', variant }) as const),
  ];
  for (const { family, variant } of kernels) {
    test(tableVariantId(family, variant), async () => {
      const random = new Random(5);
      for (const [rows, dim] of [
        [50, 128],
        [7, 33],
      ] as const) {
        const table = tableFor(random, variant, rows, dim);
        const lengths = everyLength(variant);
        const bags = bagsFor(random, variant, rows, lengths, dim === 33);
        const pooled = await pool(family, variant, table, bags, lengths.length);
        assertSameValues(pooled, expectedOf(table, bags, lengths.length), `dim ${dim}`);
      }
    });
  }
});
