import assert from 'node:assert/strict';
import { test } from 'node:test';
import Value from 'typebox/value';
import { PRESETS } from '../../src/bench/presets.ts';
import { describeGpu, GPU_NAMES } from '../../src/characterize/gpus.ts';
import { characterizationSchema } from '../../src/characterize/results.ts';
import { instructionMix } from '../../src/characterize/sass.ts';
import { staticReport } from '../../src/characterize/static-report.ts';
import { findToolkitProgram } from '../../src/jit/nvcc.ts';

const skip = findToolkitProgram('nvcc') === undefined && 'no nvcc';

test('every variant on GPUs that are not here', { skip }, async () => {
  const { tables } = PRESETS.paper.architecture({ tables: 2 });
  const { rows, tools, notes } = await staticReport({
    tables,
    gpus: ['A100', 'H200', 'L4'].map(describeGpu),
  });
  for (const row of rows) {
    assert.deepEqual([...Value.Errors(characterizationSchema.properties.static.items, row)], []);
  }
  assert.match(tools.nvcc as string, /^\d+\.\d+$/);
  assert.equal(tools.cuobjdump === undefined, notes.length === 1);
  const labels = (gpu: string) => rows.filter((row) => row.gpu === gpu).map(({ variant }) => variant);
  assert.deepEqual(labels('H200'), labels('A100'));
  const of = (gpu: string, variant: string) => {
    const found = rows.find((row) => row.gpu === gpu && row.variant === variant);
    assert.ok(found, `${variant} on ${gpu}`);
    return found;
  };
  assert.ok(labels('H200').includes('standard + OptMT 64 warps + RPF d6'));
  // 64 warps leave 32 registers; on an L4, which holds 48 warps, all of them fit too.
  const capped = of('H200', 'standard + OptMT 64 warps + SMPF d8');
  assert.ok(capped.registers <= 32);
  assert.equal(capped.sharedBytes, 256 * 8 * 4);
  assert.equal(capped.warps, 64);
  assert.equal(of('L4', 'standard').warps, 48);
  assert.equal(of('L4', 'standard').occupancy, 1);
  const fused = of('H200', 'fused + OptMT 32 warps + RPF d8 + 8 bytes a lane + blocks of 64');
  assert.ok(fused.registers > 32 && fused.occupancy < 1);
  assert.equal(fused.limiter, 'registers');
  assert.equal(fused.blockThreads, 64);
});

test('GPUs by name, and an unknown one', () => {
  for (const name of GPU_NAMES) {
    const { architecture, device } = describeGpu(name.toLowerCase());
    assert.match(architecture, /^sm_\d+$/);
    assert.ok((device.gpu?.persistingL2Bytes ?? 0) > 0);
  }
  assert.throws(() => describeGpu('GTX 1080'), { code: 'USAGE', message: /GTX 1080/ });
});

test('instructions by class, function by function', () => {
  const sass = `
	code for sm_90
		Function : hotrow_one
	.headerflags	@"EF_CUDA_TEXMODE_UNIFIED EF_CUDA_64BIT_ADDRESS EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;                         /* 0x00000a00ff017b82 */
                                                                                 /* 0x000fe20000000800 */
        /*0010*/              @!P0 LDG.E.128.CONSTANT R4, desc[UR4][R2.64] ;      /* 0x0000000402047981 */
        /*0020*/                   FADD R8, R8, R4 ;                              /* 0x0000000408087221 */
        /*0030*/                   FFMA R8, R8, R4, R5 ;                          /* 0x0000000408087223 */
        /*0040*/              @P1  STL [R1+0x4], R8 ;                             /* 0x0000040801007387 */
        /*0050*/                   STG.E.64 desc[UR4][R2.64], R8 ;                /* 0x0000000802007986 */
        /*0060*/                   BRA 0x60;                                      /* 0xfffffffc00fc7947 */
        /*0070*/                   NOP;                                           /* 0x0000000000007918 */
        /*0080*/                   WIBBLE R1 ;                                    /* 0x0000000000007918 */
		Function : hotrow_two
        /*0000*/                   EXIT ;                                         /* 0x000000000000794d */
`;
  assert.deepEqual(Object.fromEntries(instructionMix(sass)), {
    hotrow_one: {
      'integer and addresses': 1,
      'global loads': 1,
      'floating point': 2,
      'local memory': 1,
      'global stores': 1,
      control: 1,
      other: 1,
    },
    hotrow_two: { control: 1 },
  });
});
