/** Transfers between devices, GPUs emulated: which there are, what is captured, what is refused and what stays during a run. */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { type Backend, type Matrix, matrix, type Operation } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { GuardedBackend } from '../../src/backend/guarded/backend.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { assertSameBits } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';
import { assertTransfers } from '../support/transfers.ts';

const skip = refuseEmulation();

const openCpu = () => new CpuBackend({ threads: 1 });

function transfer(input: Matrix, output: Matrix): Operation {
  return { op: 'transfer', input, output };
}

/** Both ways to run a program refuse it. */
async function assertRefused(
  backend: Backend,
  program: readonly Operation[],
  refusal: object,
): Promise<void> {
  assert.throws(() => backend.prepare(program), refusal);
  await assert.rejects(backend.run(program), refusal);
}

describe('transfers of a CPU', () => {
  test('another device’s buffer is refused, and both are named', async () => {
    using cpu = openCpu();
    using other = new ReferenceBackend();
    const [own, away] = [matrix(cpu.allocate(4), 2, 2), matrix(other.allocate(4), 2, 2)];
    const message = (from: string, to: string) =>
      `program[0] transfers from ${from} to ${to}, but cpu does not reach the memory of reference`;
    for (const [input, output, from, to] of [
      [own, away, 'cpu', 'reference'],
      [away, own, 'reference', 'cpu'],
    ] as const) {
      const refusal = { code: 'OPTION_INVALID', message: message(from, to) };
      await assertRefused(cpu, [transfer(input, output)], refusal);
    }
    await assertRefused(cpu, [transfer(away, away)], {
      code: 'OPTION_INVALID',
      message: 'program[0] transfers from reference to reference, and was given to cpu',
    });
  });

  test('callers: sizes, formats, places and handles that do not fit are refused by name', async () => {
    using cpu = new GuardedBackend(openCpu());
    using other = new GuardedBackend(openCpu());
    using buffer = cpu.allocate(32);
    using away = other.allocate(32);
    const input = matrix(buffer, 2, 4);
    const output = matrix(buffer, 2, 4, 8);
    const gone = cpu.allocate(8);
    gone[Symbol.dispose]();
    const wrong: readonly (readonly [Matrix, Matrix, RegExp])[] = [
      [input, { ...output, rows: 3 }, /input\.rows/],
      [input, { ...output, cols: 3 }, /input\.cols/],
      [input, { ...output, format: 'float16' }, /input\.format/],
      [{ ...input, format: 'bfloat16' }, { ...output, format: 'float16' }, /input\.format/],
      [input, { ...output, offset: 7 }, /output\.offset.*apart/],
      [input, { ...output, offset: 25 }, /inside of its buffer/],
      [input, { ...output, stride: 3 }, /output\.stride/],
      [{ ...input, buffer: { ...buffer } }, output, /input\.buffer.*a buffer that a backend gave/],
      [matrix(away, 2, 4), matrix(away, 2, 4, 8), /to or from a buffer that this backend gave/],
    ];
    for (const [from, to, message] of wrong)
      await assertRefused(cpu, [transfer(from, to)], { code: 'OPTION_INVALID', message });
    for (const [from, to] of [
      [matrix(gone, 2, 4), output],
      [input, matrix(gone, 2, 4)],
    ] as const)
      await assertRefused(cpu, [transfer(from, to)], { code: 'DISPOSED' });
    const linear = cpu.placeLinear(new Float32Array(4), undefined, 2, 2, 'float32');
    await assertRefused(cpu, [transfer({ ...input, buffer: linear as never }, output)], {
      code: 'OPTION_INVALID',
      message: /input\.buffer.*a buffer that a backend gave/,
    });
  });

  test('callers: another backend’s buffer and the backend itself stay until the run is over, and are missed after it', async () => {
    const cpu = new GuardedBackend(openCpu());
    using own = new GuardedBackend(openCpu());
    const values = new Random(3).bits(8);
    using here = own.allocate(8);
    const there = cpu.allocate(8);
    using executable = own.prepare([
      transfer(matrix(there, 2, 4), matrix(here, 2, 4)),
      { op: 'download', input: matrix(here, 2, 4), target: 'target' },
    ]);
    await cpu.run([{ op: 'upload', source: values, output: matrix(there, 2, 4) }]);
    const target = new Float32Array(8);
    const running = executable.run({ target });
    there[Symbol.dispose]();
    cpu[Symbol.dispose]();
    await running;
    assertSameBits(target, values, 'transferred');
    await assert.rejects(executable.run({ target }), { code: 'DISPOSED' });
  });
});

describe('transfers of GPUs', { skip }, async () => {
  if (skip !== undefined) return;
  const { fake, openFakeBackend } = await import('../fake-driver/open-backend.ts');
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });

  test('between two GPUs, by programs of either', async () => {
    using one = openFakeBackend();
    using two = openFakeBackend({ ordinal: 1 });
    for (const [on, from, to] of [
      [one, one, two],
      [one, two, one],
      [two, one, two],
    ] as const)
      await assertTransfers(new Random(5), on, from, to);
  });

  test('between two backends of one GPU', async () => {
    using one = openFakeBackend();
    using two = openFakeBackend();
    await assertTransfers(new Random(6), one, two, one);
  });

  test('as callers see them: between two GPUs and with host memory', async () => {
    using one = new GuardedBackend(openFakeBackend());
    using two = new GuardedBackend(openFakeBackend({ ordinal: 1 }));
    using cpu = new GuardedBackend(openCpu());
    await assertTransfers(new Random(7), one, two, one);
    await assertTransfers(new Random(8), one, one, cpu);
    await assertTransfers(new Random(9), one, cpu, one);
  });

  test('programs that copy from GPU to GPU are not captured, others are', async () => {
    using one = openFakeBackend();
    using two = openFakeBackend({ ordinal: 1 });
    using cpu = openCpu();
    using own = one.allocate(16);
    const a = matrix(own, 2, 4);
    for (const [other, captured] of [
      [one, 1],
      [two, 0],
      [cpu, 1],
    ] as const) {
      using buffer = other.allocate(16);
      using executable = one.prepare([transfer(a, matrix(buffer, 2, 4, 0, 6))]);
      for (let run = 0; run < 2; run++) await executable.run({}, { timing: 'none' });
      assert.equal(fake.live().graphExec ?? 0, captured, other.device.id);
    }
  });

  test('host memory that a program writes, and other backends’ buffers, are refused before any work', async () => {
    using gpu = openFakeBackend();
    using cpu = openCpu();
    using reference = new ReferenceBackend();
    using own = gpu.allocate(16);
    using host = cpu.allocate(16);
    const [a, b] = [matrix(own, 2, 4), matrix(own, 2, 4, 8)];
    const [c, d] = [matrix(host, 2, 4), matrix(host, 2, 4, 8)];
    for (const second of [transfer(c, b), transfer(b, c)]) {
      await assertRefused(gpu, [transfer(a, c), second], {
        code: 'OPTION_INVALID',
        message: 'program[1] uses host memory that program[0] writes',
      });
    }
    // Read and then written, and written elsewhere.
    const values = new Random(4).bits(8);
    const found = new Float32Array(8);
    await cpu.run([{ op: 'upload', source: values, output: c }]);
    await gpu.run([transfer(c, a), transfer(a, d), transfer(b, c)]);
    await cpu.run([{ op: 'download', input: d, target: found }]);
    assertSameBits(found, values, 'there and back');
    await assertRefused(gpu, [transfer(matrix(reference.allocate(8), 2, 4), a)], {
      code: 'OPTION_INVALID',
      message: /neither in host memory nor on a GPU/,
    });
  });

  test('another GPU’s backend and buffer stay until the run is over', async () => {
    using one = new GuardedBackend(openFakeBackend());
    const two = new GuardedBackend(openFakeBackend({ ordinal: 1 }));
    using here = one.allocate(8);
    const there = two.allocate(8);
    const values = new Random(3).bits(8);
    await two.run([{ op: 'upload', source: values, output: matrix(there, 2, 4) }]);
    const target = new Float32Array(8);
    const running = one.run([
      transfer(matrix(there, 2, 4), matrix(here, 2, 4)),
      { op: 'download', input: matrix(here, 2, 4), target },
    ]);
    there[Symbol.dispose]();
    two[Symbol.dispose]();
    await running;
    assertSameBits(target, values, 'transferred');
  });
});
