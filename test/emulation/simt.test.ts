/** The emulator itself: barriers, shared memory, atomics, asynchronous copies, tensor cores, and what it refuses. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { KernelSource } from '../../src/backend/cuda/kernels/source.ts';
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
  kernel(
    'shuffle',
    `const float own = static_cast<float>(threadIdx.x);
     const float other = __shfl_xor_sync(0xffffffffu, own, 5);
     hotrow::ptx::store(params.data + threadIdx.x, static_cast<int>(other));`,
  ),
  // Two groups of copies, of which the second is not there when the first is waited for; and one of zeros.
  kernel(
    'copy_async',
    `float *shared = static_cast<float *>(hotrow::ptx::dynamic_shared());
     const float *from = reinterpret_cast<const float *>(params.data);
     hotrow::ptx::copy_async<16>(shared, from, true);
     hotrow::ptx::commit_copies();
     hotrow::ptx::copy_async<4>(shared + 4, from + 4, true);
     hotrow::ptx::copy_async<4>(shared + 5, from + params.count, false);
     hotrow::ptx::commit_copies();
     hotrow::ptx::wait_for_copies<1>();
     const bool early = shared[4] == shared[4];
     const float first = shared[3];
     hotrow::ptx::wait_for_copies<0>();
     hotrow::ptx::store(params.data + 8, static_cast<int>(first));
     hotrow::ptx::store(params.data + 9, early ? 1 : 0);
     hotrow::ptx::store(params.data + 10, static_cast<int>(shared[4] + shared[5]));`,
  ),
  // Two copies out of shared memory, of which one takes what is there when it is waited for, and nobody waits for the other.
  kernel(
    'bulk_copy',
    `float *shared = static_cast<float *>(hotrow::ptx::dynamic_shared());
     float *to = reinterpret_cast<float *>(params.data);
     for (int i = 0; i < 8; i++) shared[i] = static_cast<float>(i);
     hotrow::ptx::publish_to_bulk();
     hotrow::ptx::store_bulk(to, shared + 4, 16);
     shared[4] = 9.0f;
     hotrow::ptx::wait_for_bulk_reads();
     shared[5] = 9.0f;
     hotrow::ptx::store_bulk(to + 4, shared, 16);`,
  ),
  kernel(
    'bulk_copy_to',
    `float *shared = static_cast<float *>(hotrow::ptx::dynamic_shared());
     shared[0] = 0.0f;
     hotrow::ptx::store_bulk(reinterpret_cast<float *>(params.data) + params.count, shared, 16);`,
  ),
  // a [16, 8] at 0, b [8, 8] at 128, sums [16, 8] at 192, every thread with the elements that ptx.cuh gives it.
  kernel(
    'tensor',
    `const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
     const auto word = [&](int at) { return __float_as_uint(static_cast<float>(hotrow::ptx::load(params.data + at))); };
     float sums[4] = {};
     hotrow::ptx::multiply_tf32(sums, {word(8 * g + t), word(8 * (g + 8) + t), word(8 * g + t + 4), word(8 * (g + 8) + t + 4)},
                                {word(128 + 8 * t + g), word(128 + 8 * (t + 4) + g)});
     for (int e = 0; e < 4; e++)
       hotrow::ptx::store(params.data + 192 + 8 * (g + 8 * (e / 2)) + 2 * t + e % 2, static_cast<int>(sums[e]));`,
  ),
  // The same over 16 columns: a [16, 16] at 0, b [16, 8] at 256, sums [16, 8] at 384.
  kernel(
    'tensor_float16',
    `const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
     const auto at = [&](int place) { return static_cast<float>(hotrow::ptx::load(params.data + place)); };
     const auto left = [&](int row, int k) { return hotrow::ptx::to_float16_pair(at(16 * row + k), at(16 * row + k + 1)); };
     const auto right = [&](int k) { return hotrow::ptx::to_float16_pair(at(256 + 8 * k + g), at(256 + 8 * (k + 1) + g)); };
     float sums[4] = {};
     hotrow::ptx::multiply_float16(sums, {left(g, 2 * t), left(g + 8, 2 * t), left(g, 2 * t + 8), left(g + 8, 2 * t + 8)},
                                   {right(2 * t), right(2 * t + 8)});
     for (int e = 0; e < 4; e++)
       hotrow::ptx::store(params.data + 384 + 8 * (g + 8 * (e / 2)) + 2 * t + e % 2, static_cast<int>(sums[e]));`,
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

test('threads of a warp exchange values', { skip: refusal }, () => {
  const data = new Int32Array(64);
  emulator.launch('shuffle', { grid: [1], block: [64], params: at(data), reads: [], writes: [data] });
  assert.deepEqual(
    data,
    data.map((_, i) => i ^ 5),
  );
});

test('asynchronous copies are there when they were waited for, and not before', { skip: refusal }, () => {
  const data = new Int32Array(Float32Array.of(1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0).buffer);
  const launch = { grid: [1], block: [1], params: at(data, 1000), reads: [], writes: [data] } as const;
  const { reads } = emulator.launch('copy_async', launch);
  assert.deepEqual([...data.subarray(8)], [4, 0, 5]);
  assert.equal(reads, 2, 'zeros are not read');
});

test('bulk copies read when they are waited for, and not at all otherwise', { skip: refusal }, () => {
  const data = new Int32Array(8);
  const launch = (kernel: string, count: number) =>
    emulator.launch(kernel, { grid: [1], block: [1], params: at(data, count), reads: [], writes: [data] });
  launch('bulk_copy', 0);
  assert.deepEqual([...new Float32Array(data.buffer)], [9, 5, 6, 7, 0, 0, 0, 0]);
  assert.throws(() => launch('bulk_copy_to', 2), /unaligned access/);
  assert.throws(() => launch('bulk_copy_to', 8), /write outside of every array/);
});

test('tensor cores multiply what ptx.cuh says that each thread holds', { skip: refusal }, () => {
  for (const [kernel, depth] of [
    ['tensor', 8],
    ['tensor_float16', 16],
  ] as const) {
    const [b, sums] = [16 * depth, 24 * depth];
    const data = new Int32Array(sums + 128).map((_, i) => ((i * 7919) % 31) - 15);
    const expected = Array.from({ length: 128 }, (_, i) => {
      const [row, column] = [Math.floor(i / 8), i % 8];
      const products = Array.from({ length: depth }, (_, k) => {
        return (data[depth * row + k] as number) * (data[b + 8 * k + column] as number);
      });
      return products.reduce((sum, product) => sum + product, 0);
    });
    emulator.launch(kernel, { grid: [1], block: [32], params: at(data), reads: [], writes: [data] });
    assert.deepEqual([...data.subarray(sums)], expected, kernel);
  }
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
