/** Transfers: matrices of every format, between a backend's own buffers and with host memory, bit for bit. */
import { test } from 'node:test';
import { type Matrix, matrix } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { assertSameBits } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { assertTransfers } from '../support/transfers.ts';
import type { Subject } from './subject.ts';

export function transferCases(subject: Subject): void {
  test('between own buffers', async () => {
    const { backend } = subject;
    await assertTransfers(new Random(91), backend, backend, backend);
  });

  test('within a buffer, and in the order of the program', async () => {
    const { backend } = subject;
    using buffer = backend.allocate(24);
    const [a, b, c] = [0, 8, 16].map((offset) => matrix(buffer, 2, 4, offset)) as [Matrix, Matrix, Matrix];
    const [first, second] = [0, 1].map((seed) => new Random(seed).reals(8)) as [Float32Array, Float32Array];
    const found = [a, b, c].map(() => new Float32Array(8));
    using executable = backend.prepare([
      { op: 'upload', source: 'first', output: a },
      { op: 'transfer', input: a, output: b, stage: 'there' },
      { op: 'upload', source: 'second', output: a },
      { op: 'transfer', input: a, output: c },
      { op: 'transfer', input: b, output: a },
      { op: 'download', input: a, target: '0' },
      { op: 'download', input: b, target: '1' },
      { op: 'download', input: c, target: '2' },
    ]);
    for (let run = 0; run < 3; run++) {
      for (const array of found) array.fill(0);
      await executable.run({ first, second, ...Object.fromEntries(found.entries()) }, { timing: 'none' });
      for (const [i, expected] of [first, first, second].entries())
        assertSameBits(found[i] as Float32Array, expected, `run ${run}, matrix ${i}`);
    }
  });

  test('to and from host memory', async (t) => {
    const { backend } = subject;
    if (!backend.device.capabilities.exchangesWith.includes('cpu'))
      return t.skip(`${backend.device.id} does not reach the memory of another device`);
    using host = new CpuBackend({ threads: 1 });
    const random = new Random(92);
    await assertTransfers(random, backend, host, backend);
    await assertTransfers(random, backend, backend, host);
  });
}
