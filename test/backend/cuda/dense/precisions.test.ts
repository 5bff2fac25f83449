/** Operations of several precisions on one backend, its kernels emulated. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix, type Operation } from '../../../../src/backend/backend.ts';
import type { CudaBackend } from '../../../../src/backend/cuda/cuda-backend.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';

const skip = refuseEmulation() ?? false;
const open = async () => (await import('../../../fake-driver/open-backend.ts')).openFakeBackend;

/** 1 + 2^-9, which bfloat16 rounds to 1 and the others keep; and its square in float32. */
const VALUE = 1 + 2 ** -9;
const SQUARE = Math.fround(VALUE ** 2);

test('a program may multiply in several precisions', { skip }, async () => {
  using backend: CudaBackend = (await open())();
  const layer = (precision: 'float32' | 'bfloat16') =>
    backend.placeLinear(Float32Array.of(VALUE), undefined, 1, 1, precision);
  using exact = layer('float32');
  using rounded = layer('bfloat16');
  assert.deepEqual([exact.precision, rounded.precision], ['float32', 'bfloat16']);
  using buffer = backend.allocate(24);
  const place = (offset: number, cols: number) => matrix(buffer, 1, cols, offset);
  const narrow = (offset: number, cols: number) =>
    ({ ...place(2 * offset, cols), format: 'bfloat16' }) as const;
  const linear = { op: 'linear', input: place(0, 1), activation: 'none' } as const;
  const dot = { features: 2, dim: 1, diagonal: false, order: 'lower' } as const;
  const out = new Float32Array(5);
  const program: Operation[] = [
    { op: 'upload', source: Float32Array.of(VALUE, VALUE), output: place(0, 2) },
    { ...linear, layer: exact, output: place(8, 1) },
    { ...linear, layer: rounded, output: place(9, 1) },
    { op: 'copy', input: place(0, 2), output: narrow(16, 2) },
    { op: 'dotInteraction', input: narrow(16, 2), ...dot, precision: 'bfloat16', output: narrow(20, 1) },
    { op: 'copy', input: narrow(20, 1), output: place(10, 1) },
    { op: 'dotInteraction', input: place(0, 2), ...dot, precision: 'float32', output: place(11, 1) },
    { op: 'copy', input: place(0, 1), output: place(12, 1) },
    { op: 'download', input: place(8, 5), target: out },
  ];
  await backend.run(program);
  // Matrices of another precision's format are refused.
  for (const [input, output] of [
    [place(0, 2), narrow(20, 1)],
    [narrow(16, 2), place(10, 1)],
  ] as const)
    await assert.rejects(
      backend.run([{ op: 'dotInteraction', input, ...dot, precision: 'bfloat16', output }]),
      {
        code: 'OPTION_INVALID',
        message: /put\.format is "float32", expected bfloat16/,
      },
    );
  // A layer of one output rounds its weight alone.
  assert.deepEqual([...out], [SQUARE, VALUE, 1, SQUARE, VALUE]);
});
