/**
 * A thread that takes as much memory as tables do, fills it, reads random rows and gives it back, in each of the ways that the driver
 * has. `workerData`: a MemoryStart.
 */
import { parentPort, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { CudaDevice } from '../../src/cuda/device.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaModule } from '../../src/cuda/module.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import type { DevicePtr } from '../../src/ffi/cuda-symbols.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { ParameterBlock } from '../../src/ffi/parameter-block.ts';
import { nowMs } from '../../src/serve/engine/clock.ts';
import { CallLog } from './calls.ts';
import type { LoaderReport, Stretch } from './loader.ts';

export interface MemoryStart {
  readonly longMs: number;
  readonly blocks: number;
  readonly blockBytes: number;
}

const MIB = 2 ** 20;
const PAUSE_MS = 1;
/** Of memory that is mapped, and of what a pool gives back at a time. */
const PIECE_BYTES = 64 * MIB;
/** Of a CUmemPool_attribute. */
const RELEASE_THRESHOLD = 4;
const RESERVED_BYTES = 5;
const READ_WRITE = 3;
const ON_DEVICE = 1;
const PINNED = 1;
const POOL_PROPS_WORDS = 11;

const LOOKUPS = 1 << 22;
const ROW_BYTES = 512;
const LOOKUP_ROUNDS = 20;
const LOOKUP_SOURCE = `
struct Params { const float4 *const *blocks; long long count, rows, lookups; float *sink; };
extern "C" __global__ void look_up(Params p) {
  const long long first = (blockIdx.x * (long long)blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
  float sum = 0;
  for (long long i = first; i < p.lookups; i += gridDim.x * (long long)blockDim.x / 32) {
    unsigned long long hash = i * 0x9E3779B97F4A7C15ull;
    hash = (hash ^ (hash >> 29)) * 0xBF58476D1CE4E5B9ull;
    hash ^= hash >> 32;
    const float4 v = p.blocks[hash % p.count][((hash >> 20) % p.rows) * 32 + lane];
    sum += v.x + v.y + v.z + v.w;
  }
  if (sum == 12345.0f) *p.sink = sum;
}`;

/** Calls that Hotrow's binding does not have. */
function bind(path: string, log: CallLog) {
  const library = koffi.load(path);
  const call = (name: string, parameters: string) => {
    const native = library.func(`int ${name}(${parameters})`);
    return (bytes: number | undefined, ...args: unknown[]) => {
      const status: number = log.timed(name, bytes, () => native(...args));
      if (status !== 0) throw new Error(`${name}: status ${status}`);
    };
  };
  return {
    allocate: call('cuMemAlloc_v2', 'void *out, size_t bytes'),
    free: call('cuMemFree_v2', 'uint64_t memory'),
    createPool: call('cuMemPoolCreate', 'void *out, void *props'),
    destroyPool: call('cuMemPoolDestroy', 'uint64_t pool'),
    setAttribute: call('cuMemPoolSetAttribute', 'uint64_t pool, int attribute, void *value'),
    getAttribute: call('cuMemPoolGetAttribute', 'uint64_t pool, int attribute, void *value'),
    allocateFromPool: call(
      'cuMemAllocFromPoolAsync',
      'void *out, size_t bytes, uint64_t pool, uint64_t stream',
    ),
    freeAsync: call('cuMemFreeAsync', 'uint64_t memory, uint64_t stream'),
    trim: call('cuMemPoolTrimTo', 'uint64_t pool, size_t keep'),
    reserve: call(
      'cuMemAddressReserve',
      'void *out, size_t bytes, size_t alignment, uint64_t at, uint64_t flags',
    ),
    create: call('cuMemCreate', 'void *out, size_t bytes, void *props, uint64_t flags'),
    map: call('cuMemMap', 'uint64_t at, size_t bytes, size_t offset, uint64_t handle, uint64_t flags'),
    setAccess: call('cuMemSetAccess', 'uint64_t at, size_t bytes, void *access, size_t count'),
    unmap: call('cuMemUnmap', 'uint64_t at, size_t bytes'),
    release: call('cuMemRelease', 'uint64_t handle'),
    freeAddress: call('cuMemAddressFree', 'uint64_t at, size_t bytes'),
  };
}

type Calls = ReturnType<typeof bind>;

const NOBODY = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/** Blocks the thread. */
function pause(ms: number): void {
  Atomics.wait(NOBODY, 0, 0, ms);
}

/** Takes `count` blocks, and says how they are given back: in steps with names, each of which may pause between calls. */
interface Way {
  readonly name: string;
  take(count: number, bytes: number, rest: () => void): Taken;
}

interface Taken {
  readonly blocks: readonly bigint[];
  readonly steps: readonly (readonly [name: string, work: (rest: () => void) => void])[];
}

const out = new BigUint64Array(new ArrayBuffer(8));
const made = (): bigint => out[0] as bigint;

/** One call a block. */
function plain(calls: Calls): Way {
  return {
    name: 'cuMemAlloc',
    take(count, bytes, rest) {
      const blocks = Array.from({ length: count }, () => {
        calls.allocate(bytes, out, bytes);
        rest();
        return made();
      });
      const free = (rest: () => void) => {
        for (const block of blocks) {
          calls.free(bytes, block);
          rest();
        }
      };
      return { blocks, steps: [['free', free]] };
    },
  };
}

/** A pool that keeps what is given back until it is trimmed. `isWaiting`: blocks are given back by cuMemFree. */
function pooled(calls: Calls, ordinal: number, stream: CudaStream, isWaiting: boolean): Way {
  return {
    name: isWaiting ? 'pool, cuMemFree' : 'pool, cuMemFreeAsync',
    take(count, bytes, rest) {
      // CUmemPoolProps: the type and no handles, then where.
      const props = new BigUint64Array(new ArrayBuffer(8 * POOL_PROPS_WORDS));
      props.set([BigInt(PINNED), BigInt(ON_DEVICE) | (BigInt(ordinal) << 32n)]);
      calls.createPool(undefined, out, props);
      const pool = made();
      calls.setAttribute(undefined, pool, RELEASE_THRESHOLD, BigUint64Array.of(2n ** 63n));
      const blocks = Array.from({ length: count }, () => {
        calls.allocateFromPool(bytes, out, bytes, pool, stream.handle);
        rest();
        return made();
      });
      stream.synchronize();
      const free = (rest: () => void) => {
        for (const block of blocks) {
          if (isWaiting) calls.free(bytes, block);
          else calls.freeAsync(bytes, block, stream.handle);
          rest();
        }
        stream.synchronize();
      };
      const trim = (rest: () => void) => {
        calls.getAttribute(undefined, pool, RESERVED_BYTES, out);
        for (let left = Number(made()); left > 0; left -= PIECE_BYTES) {
          calls.trim(PIECE_BYTES, pool, Math.max(0, left - PIECE_BYTES));
          rest();
        }
      };
      return {
        blocks,
        steps: [
          ['free', free],
          ['trim', trim],
          ['destroy', () => calls.destroyPool(undefined, pool)],
        ],
      };
    },
  };
}

/** Addresses, with pieces of memory mapped to them one by one. */
function mapped(calls: Calls, ordinal: number): Way {
  const where = BigInt(ON_DEVICE) | (BigInt(ordinal) << 32n);
  // CUmemAllocationProp, and CUmemAccessDesc.
  const props = BigUint64Array.of(BigInt(PINNED), where, 0n, 0n);
  const access = BigUint64Array.of(where, BigInt(READ_WRITE));
  return {
    name: 'mapped',
    take(count, bytes, rest) {
      const whole = Math.ceil(bytes / (2 * MIB)) * 2 * MIB;
      const pieces: { readonly at: bigint; readonly length: number }[] = [];
      const blocks = Array.from({ length: count }, () => {
        calls.reserve(whole, out, whole, 0, 0n, 0n);
        const block = made();
        for (let offset = 0; offset < whole; offset += PIECE_BYTES) {
          const [at, length] = [block + BigInt(offset), Math.min(PIECE_BYTES, whole - offset)];
          calls.create(length, out, length, props, 0n);
          const handle = made();
          calls.map(length, at, length, 0, handle, 0n);
          // It stays as long as it is mapped.
          calls.release(length, handle);
          calls.setAccess(length, at, length, access, 1);
          pieces.push({ at, length });
          rest();
        }
        return block;
      });
      const unmap = (rest: () => void) => {
        for (const { at, length } of pieces) {
          calls.unmap(length, at, length);
          rest();
        }
        for (const block of blocks) calls.freeAddress(whole, block, whole);
      };
      return { blocks, steps: [['unmap', unmap]] };
    },
  };
}

async function lookUp(device: CudaDevice): Promise<CudaModule> {
  const compiler = new Nvrtc({ majorVersion: Math.floor(device.driver.version / 1000) });
  const options = [`--gpu-architecture=${device.properties.architecture}`];
  const program = { source: LOOKUP_SOURCE, fileName: 'look_up.cu', headers: new Map(), options };
  return new CudaModule(device, (await compiler.compile(program)).cubin);
}

/** Random rows of the blocks, read: GB/s, the fastest of some rounds. */
function lookupRate(
  stream: CudaStream,
  module: CudaModule,
  blocks: readonly bigint[],
  bytes: number,
): number {
  const { device } = stream;
  using memory = new DeviceMemory(device, 8 * (blocks.length + 1));
  const addresses = BigUint64Array.from(blocks);
  stream.copyToDevice(memory.address(), addressOf(addresses), addresses.byteLength);
  const params = new ParameterBlock(
    BigInt64Array.of(
      memory.address(),
      BigInt(blocks.length),
      BigInt(Math.floor(bytes / ROW_BYTES)),
      BigInt(LOOKUPS),
      memory.address(8 * blocks.length),
    ),
  );
  const kernel = module.kernel('look_up');
  using start = new CudaEvent(device, { timing: true });
  using end = new CudaEvent(device, { timing: true });
  let fastest = Number.POSITIVE_INFINITY;
  for (let round = 0; round < LOOKUP_ROUNDS; round++) {
    start.record(stream);
    stream.launch(kernel, { grid: [2048, 1, 1], block: [256, 1, 1], dynamicSharedBytes: 0 }, params);
    end.record(stream);
    stream.synchronize();
    fastest = Math.min(fastest, end.msSince(start));
  }
  return (LOOKUPS * ROW_BYTES) / fastest / 1e6;
}

async function main(port: NonNullable<typeof parentPort>): Promise<void> {
  const { longMs, blocks: count, blockBytes } = workerData as MemoryStart;
  const log = new CallLog(longMs);
  using device = new CudaDevice(log.watch(new CudaDriver(), 'cuda'));
  const { ordinal } = device.properties;
  using stream = new CudaStream(device);
  using module = await lookUp(device);
  const calls = bind(device.driver.location.path, log);
  const phases: Stretch[] = [];
  const lookupGBs: Record<string, number> = {};
  const during = (name: string, work: () => void) => {
    log.phase = name;
    const fromMs = nowMs();
    work();
    phases.push({ name, fromMs, toMs: nowMs() });
    pause(100);
  };
  const ways = [plain(calls), pooled(calls, ordinal, stream, true), pooled(calls, ordinal, stream, false)];
  for (const way of [...ways, mapped(calls, ordinal)])
    for (const paused of [false, true]) {
      const rest = paused ? () => pause(PAUSE_MS) : () => {};
      const name = `${way.name}${paused ? ', pauses' : ''}`;
      device.enter();
      let taken: Taken = { blocks: [], steps: [] };
      during(`${name}: take`, () => {
        taken = way.take(count, blockBytes, rest);
      });
      during(`${name}: fill`, () => {
        for (const block of taken.blocks) stream.fillBytes(block as DevicePtr, 0, blockBytes);
        stream.synchronize();
      });
      during(`${name}: lookups`, () => {
        lookupGBs[name] = lookupRate(stream, module, taken.blocks, blockBytes);
      });
      for (const [step, work] of taken.steps) during(`${name}: ${step}`, () => work(rest));
    }
  const report: LoaderReport = { phases, steps: [], calls: log.long, totals: log.totals, lookupGBs };
  port.postMessage(report);
  port.close();
}

if (parentPort !== null) await main(parentPort);
