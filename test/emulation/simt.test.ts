/** The emulator itself: barriers, shared memory, atomics, and what it refuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KernelSource } from '../../src/backend/cuda/kernel-source.ts';
import { addressOf, type Emulator, emulate, refuseEmulation } from './emulator.ts';

const PARAMS = 'struct TestParams { int *data; long long count; };';

function kernel(name: string, body: string): KernelSource {
  const source = `
#ifndef TEST_PARAMS
#define TEST_PARAMS
${PARAMS}
#endif
extern "C" __global__ void ${name}(const TestParams params) { ${body} }`;
  return { id: name, kernel: name, source, options: [] };
}

const KERNELS = [
  // Each thread reads what its mirror image wrote, twice: a missing barrier shows in one order of threads or the other.
  kernel(
    'reverse',
    `__shared__ int values[256];
     const int last = static_cast<int>(blockDim.x) - 1;
     const int thread = static_cast<int>(threadIdx.x);
     int *at = params.data + blockIdx.x * blockDim.x + thread;
     values[thread] = hotrow::ptx::load(at);
     __syncthreads();
     const int mirrored = values[last - thread];
     __syncthreads();
     values[thread] = 2 * mirrored;
     __syncthreads();
     hotrow::ptx::store(at, values[thread] + values[last - thread]);`,
  ),
  kernel(
    'add',
    'hotrow::ptx::atomic_add(reinterpret_cast<unsigned int *>(params.data), threadIdx.x + threadIdx.y);',
  ),
  // Threads 0 to 9 end early; nobody waits for them.
  kernel(
    'early_exit',
    `if (threadIdx.x < 10) return;
     __syncthreads();
     hotrow::ptx::store(params.data + threadIdx.x, 1);
     __syncwarp();`,
  ),
  kernel(
    'warp_sum',
    `__shared__ int values[64];
     const unsigned int lane = threadIdx.x % 32;
     values[threadIdx.x] = hotrow::ptx::load(params.data + threadIdx.x);
     for (unsigned int width = 16; width > 0; width /= 2) {
       __syncwarp();
       const int sum = values[threadIdx.x] + (lane < width ? values[threadIdx.x + width] : 0);
       __syncwarp();
       values[threadIdx.x] = sum;
     }
     if (lane == 0) hotrow::ptx::store(params.data + threadIdx.x, values[threadIdx.x]);`,
  ),
  kernel('diverge', 'if (threadIdx.x == 0) __syncthreads(); else if (threadIdx.x == 1) __syncwarp();'),
  kernel('read_at', 'hotrow::ptx::load(params.data + params.count);'),
  kernel(
    'read_unaligned',
    'hotrow::ptx::load(reinterpret_cast<const int *>(reinterpret_cast<const char *>(params.data) + 2));',
  ),
  kernel('prefetch_at', 'hotrow::ptx::prefetch_l1(params.data + params.count);'),
];

const refusal = refuseEmulation();
let emulator: Emulator;

test('the emulator builds', { skip: refusal }, async () => {
  emulator = await emulate(KERNELS);
});

const at = (data: Int32Array, count = 0) => BigInt64Array.of(addressOf(data), BigInt(count));

for (const backwards of [false, true]) {
  const order = backwards ? 'threads in descending order' : 'threads in ascending order';

  test(`block barriers and shared memory, ${order}`, { skip: refusal }, () => {
    const data = Int32Array.from({ length: 300 }, (_, i) => i * i);
    const expected = data.map((value, i) => {
      const mirror = Math.floor(i / 100) * 100 + 99 - (i % 100);
      return 2 * (value + (data[mirror] as number));
    });
    emulator.launch('reverse', {
      grid: [3],
      block: [100],
      params: at(data),
      reads: [],
      writes: [data],
      backwards,
    });
    assert.deepEqual(data, expected);
  });

  test(`warp barriers, ${order}`, { skip: refusal }, () => {
    const data = Int32Array.from({ length: 64 }, (_, i) => i);
    emulator.launch('warp_sum', {
      grid: [1],
      block: [64],
      params: at(data),
      reads: [],
      writes: [data],
      backwards,
    });
    assert.deepEqual([data[0], data[32]], [496, 1520]);
  });
}

test('atomics, two-dimensional blocks and grids', { skip: refusal }, () => {
  const data = new Int32Array(1);
  const counts = emulator.launch('add', {
    grid: [2, 3],
    block: [4, 5],
    params: at(data),
    reads: [],
    writes: [data],
  });
  assert.equal(data[0], 6 * (5 * 6 + 4 * 10));
  assert.deepEqual(counts, { reads: 120, writes: 120, prefetches: 0 });
});

test('threads that have ended are not waited for', { skip: refusal }, () => {
  const data = new Int32Array(40);
  emulator.launch('early_exit', { grid: [1], block: [40], params: at(data), reads: [], writes: [data] });
  assert.equal(data.indexOf(1), 10);
  assert.equal(data.lastIndexOf(0), 9);
});

test('what a kernel must not do', { skip: refusal }, () => {
  const data = new Int32Array(8);
  const launch = (kernel: string, count: number, reads: Int32Array[], writes: Int32Array[]) =>
    emulator.launch(kernel, { grid: [1], block: [2], params: at(data, count), reads, writes });
  launch('read_at', 7, [data], []);
  assert.throws(() => launch('read_at', 8, [data], []), /read outside of every array, 4 bytes/);
  assert.throws(() => launch('read_at', -1, [data], []), /read outside of every array/);
  assert.throws(() => launch('read_unaligned', 0, [data], []), /unaligned access/);
  assert.throws(() => launch('prefetch_at', 8, [data], []), /prefetch outside of every array/);
  assert.throws(() => launch('add', 0, [data], []), /write to read-only memory/);
  assert.throws(() => launch('diverge', 0, [data], []), /different barriers/);
  launch('read_at', 0, [data], []);
});
