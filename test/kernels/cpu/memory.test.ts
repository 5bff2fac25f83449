/** What the CPU library takes from the system, and gives back: memory, mapped files, descriptors, threads. */
import assert from 'node:assert/strict';
import { appendFile, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import { addressOf, MappedFile, NativeMemory } from '../../../src/ffi/host-memory.ts';
import { library } from '../../../src/ffi/native-library.ts';
import { createPool, destroyPool } from '../../../src/ffi/thread-pool.ts';
import { plainPlan } from '../../../src/plan/plan.ts';
import { randomTable } from '../../support/cases.ts';
import { Random } from '../../support/random.ts';
import {
  descriptors,
  givesMemoryBack,
  guards,
  mapped,
  mappings,
  PAGE_BYTES,
  refuseCounting,
  threads,
} from '../../support/resources.ts';
import { dotInteractionOn, poolPlaced } from '../../support/run-operators.ts';

const MIB = 2 ** 20;
const PAGE = PAGE_BYTES;
/** What the engine may map meanwhile. */
const SLACK_BYTES = 96 * MIB;
const SLACK_GUARDS = 16;

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-memory-'));
});
after(() => rm(folder, { recursive: true }));

async function file(name: string, bytes: Uint8Array): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, bytes);
  return path;
}

const reserved = () => mappings().reduce((sum, { bytes }) => sum + bytes, 0);

describe('memory', { skip: refuseCounting }, () => {
  for (const bytes of [1, PAGE, PAGE + 1, MIB - 1, MIB, 3 * MIB + 1])
    for (const huge of [false, true])
      test(`a block of ${bytes} bytes${huge ? ', huge' : ''}: it is there, guarded, and then gone`, () => {
        const [guardsBefore, reservedBefore] = [guards(), reserved()];
        const blocks = Array.from({ length: 256 }, () => new NativeMemory(bytes, huge));
        const more = guards() - guardsBefore;
        assert.ok(more >= blocks.length && more < blocks.length + SLACK_GUARDS, `${more} guards`);
        for (const block of blocks) {
          assert.equal(block.address % BigInt(huge ? 2 * MIB : PAGE), 0n);
          if (block === blocks[0]) block.view(bytes - 1, 1)[0] = 7;
        }
        const largest =
          (bytes >= MIB ? Math.ceil(bytes / (2 * MIB)) * 2 * MIB : Math.ceil(bytes / PAGE) * PAGE) + PAGE;
        assert.ok(
          reserved() - reservedBefore <= blocks.length * largest + SLACK_BYTES,
          'no more than the block and its guard',
        );
        for (const block of blocks) block[Symbol.dispose]();
        assert.ok(guards() - guardsBefore < SLACK_GUARDS);
        assert.ok(reserved() - reservedBefore < SLACK_BYTES, `${reserved() - reservedBefore} bytes stay`);
      });

  test('memory that was given back has no address, an empty array has none either', () => {
    const memory = new NativeMemory(8);
    memory[Symbol.dispose]();
    memory[Symbol.dispose]();
    assert.throws(() => memory.address, { code: 'DISPOSED' });
    assert.throws(() => memory.view(0, 1), { code: 'DISPOSED' });
    assert.equal(addressOf(new Float32Array(0)), 0n);
    assert.notEqual(addressOf(new Float32Array(1)), 0n);
  });

  test('sizes that are none are refused', () => {
    for (const bytes of [-1n, -(2n ** 63n), 2n ** 63n - 1n, 2n ** 62n])
      assert.equal(BigInt(library().alloc(bytes, 0)), 0n, `${bytes}`);
  });

  test('huge pages are counted in bytes, of the block alone', () => {
    using memory = new NativeMemory(64 * MIB, true);
    memory.view(0, 64 * MIB).fill(1);
    const before = descriptors();
    const huge = memory.hugeBytes();
    assert.ok(huge !== undefined && huge % (2 * MIB) === 0 && huge <= 64 * MIB, `${huge}`);
    const inner = Number(library().hugeBytes(memory.address, 2 * MIB));
    assert.ok(inner <= 2 * MIB);
    assert.equal(descriptors(), before);
  });
});

describe('files', { skip: refuseCounting }, () => {
  test('what is read past 64 MiB, and past the end', async () => {
    const bytes = 64 * MIB + 8;
    const path = join(folder, 'large');
    const handle = await open(path, 'w');
    await handle.write(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8), 0, 8, bytes - 8);
    await handle.close();
    using memory = new NativeMemory(bytes);
    const before = descriptors();
    await memory.readFile(path, 0, bytes);
    assert.deepEqual([...memory.view(bytes - 8, 8)], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual([...memory.view(0, 8)], Array(8).fill(0));
    await assert.rejects(memory.readFile(path, 1, bytes), { code: 'FILE_TRUNCATED' });
    await assert.rejects(memory.readFile(join(folder, 'none'), 0, 1), { code: 'FILE_NOT_FOUND' });
    assert.equal(descriptors(), before);
  });

  test('a mapping goes with its descriptor; one that cannot be made leaves neither', async () => {
    const path = await file('mapped', new Uint8Array(3 * PAGE));
    const empty = await file('empty', new Uint8Array(0));
    const before = descriptors();
    for (let i = 0; i < 5; i++) {
      using one = new MappedFile(path);
      using other = new MappedFile(path);
      assert.deepEqual([one.bytes, other.bytes, mapped(path) > 0], [3 * PAGE, 3 * PAGE, true]);
    }
    assert.throws(() => new MappedFile(empty));
    assert.throws(() => new MappedFile(join(folder, 'none')), { code: 'FILE_NOT_FOUND' });
    assert.deepEqual([mapped(path), mapped(empty)], [0, 0]);
    assert.equal(descriptors(), before);
  });

  test('a change is noticed wherever it is, by that file alone, and forgotten with the mapping', async () => {
    // So long that the samples do not end at its last bytes by themselves.
    const bytes = new Uint8Array(PAGE + 904).map((_, i) => i);
    const changes: readonly (readonly [name: string, change: (path: string) => Promise<unknown>])[] = [
      ['the first byte', (path) => writeFile(path, Uint8Array.of(255, ...bytes.subarray(1)))],
      ['the last byte', (path) => writeFile(path, Uint8Array.of(...bytes.subarray(0, -1), 255))],
      ['a byte more', (path) => appendFile(path, 'x')],
      ['a byte less', (path) => writeFile(path, bytes.subarray(0, -1))],
    ];
    for (const [name, change] of changes) {
      const path = await file('changed', bytes);
      const beside = await file('beside', bytes);
      {
        using mapping = new MappedFile(path);
        using other = new MappedFile(beside);
        assert.equal(mapping.hasChanged(), false);
        await change(path);
        assert.equal(mapping.hasChanged(), true, name);
        assert.equal(other.hasChanged(), false, name);
      }
      using again = new MappedFile(beside);
      using anew = new MappedFile(path);
      assert.deepEqual([again.hasChanged(), anew.hasChanged()], [false, false], name);
    }
  });
});

describe('pools', { skip: refuseCounting }, () => {
  test('threads end with their pool, and their stacks go', async () => {
    const before = threads();
    const all = createPool(5, 'portable');
    assert.equal(threads() - before, 4);
    destroyPool(all);
    assert.equal(threads(), before);
    await givesMemoryBack(40, 4 * 8 * MIB, () => destroyPool(createPool(5, 'portable')));
  });

  test('pools without threads, or of an instruction set that is none, are not made', () => {
    for (const [count, isa] of [
      [0, 0],
      [-1, 0],
      [1, 7],
      [1, -1],
    ] as const)
      assert.equal(BigInt(library().poolCreate(count, isa)), 0n, `${count} threads, isa ${isa}`);
  });

  /** An interaction whose threads need so much scratch memory each. */
  const withScratch = (backend: CpuBackend, bytes: number) => {
    const dim = Math.ceil(bytes / 64 / 4);
    const problem = { batch: 1, features: 2, dim, diagonal: false, order: 'lower' as const };
    return dotInteractionOn(backend, { ...problem, input: new Float32Array(2 * dim) });
  };

  test('scratch memory goes with the pool, and when it grows', async () => {
    await givesMemoryBack(20, 8 * MIB, async () => {
      using backend = new CpuBackend({ threads: 1 });
      await withScratch(backend, 8 * MIB);
    });
    using backend = new CpuBackend({ threads: 1 });
    await withScratch(backend, 48 * MIB);
    // Each is a little larger than all before: without giving back, half a GiB.
    await givesMemoryBack(12, 48 * MIB, (i) => withScratch(backend, 48 * MIB + i * 2 ** 16));
  });

  test('memory for long bags goes with the run, and when it grows', async () => {
    using backend = new CpuBackend({ threads: 1 });
    const table = randomTable(new Random(1), { rows: 4, dim: 4 });
    using placed = await backend.placeTables([table], plainPlan('cpu'));
    const lengths = Array.from({ length: 8 }, (_, i) => 100_000 + 1000 * i);
    const ends = lengths.map((_, i) => lengths.slice(0, i + 1).reduce((sum, length) => sum + length, 0));
    const bags = {
      indices: new Int32Array(ends.at(-1) as number),
      offsets: Int32Array.of(0, ...ends),
    };
    const batch = { batchSize: lengths.length, bags: [bags] };
    await givesMemoryBack(30, 12 * 100_000, () => poolPlaced(backend, placed, batch));
  });

  test('memory for many copies goes when they are done', async () => {
    const count = 1 << 16;
    const [source, target] = [new Uint8Array(count), new Uint8Array(count)];
    const words = new BigUint64Array(6 * count);
    for (let c = 0; c < count; c++)
      words.set([addressOf(target) + BigInt(c), addressOf(source) + BigInt(c), 1n, 1n, 0n, 0n], 6 * c);
    const pool = createPool(1, 'portable');
    await givesMemoryBack(100, 8 * count, () =>
      assert.equal(Number(library().copyAll(pool, words, count)), 0),
    );
    destroyPool(pool);
    // Addresses keep nothing from the collector.
    assert.deepEqual(target, source);
  });
});
