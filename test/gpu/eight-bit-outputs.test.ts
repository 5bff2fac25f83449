/** Products that leave their output in 8 bits alone, on a real GPU: those of 16 bits rounded, but for what is rounded twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cudaDriver } from '../../src/cuda/discover.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { rankOf, runEightBits } from '../support/eight-bit-outputs.ts';
import { refuseGpu } from './gpu.ts';

const skip = refuseGpu();

test('layers of MLPerf’s top MLP, with one scale for all outputs and with one for each', {
  skip,
}, async (t) => {
  const driver = cudaDriver();
  const majorVersion = Math.floor(driver.version / 1000);
  const tools = {
    ...{ driver, compiler: new Nvrtc({ majorVersion }), cache: new KernelCache() },
    cublasLt: new CublasLt({ majorVersion }),
  };
  for (const oneScale of [true, false])
    for (const [rows, inputs, outputs] of [
      [2048, 3456, 1024],
      [300, 1024, 512],
    ] as const) {
      const own = { rows, inputs, outputs, activation: 'relu', biased: true, oneScale } as const;
      const made = await runEightBits(tools, { ...own, alone: true });
      const beside = await runEightBits(tools, { ...own, alone: false });
      t.diagnostic(`${oneScale ? 'one scale' : 'vectors'}, ${rows} × ${inputs} → ${outputs}: ${made.choice}`);
      const [ranks, others] = [Array.from(made.copy, rankOf), Array.from(beside.copy, rankOf)];
      const apart = ranks.map((rank, i) => Math.abs(rank - (others[i] as number)));
      const wrong = apart.findIndex((steps, i) => {
        return !(steps <= 1 || (Number.isNaN(ranks[i]) && Number.isNaN(others[i])));
      });
      assert.equal(wrong, -1, `output ${wrong}: ${ranks[wrong]}, ${others[wrong]}`);
      assert.ok(apart.filter((steps) => steps === 1).length < apart.length / 20);
    }
});
