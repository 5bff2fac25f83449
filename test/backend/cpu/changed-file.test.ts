/** Files that are written to, cut or replaced while tables are mapped from them. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  copyFileSync,
  linkSync,
  mkdtempSync,
  renameSync,
  rmSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { CpuBackend } from '../../../src/backend/cpu/cpu-backend.ts';
import type { EmbeddingTable } from '../../../src/embedding/bag.ts';
import { EmbeddingCollection } from '../../../src/model/collection.ts';
import { plainPlan, withTechniques } from '../../../src/plan/plan.ts';
import { assertSameBits } from '../../support/compare.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-changed-'));
after(() => rmSync(folder, { recursive: true }));

const ROWS = 4096;
const DIM = 64;
const BYTES = ROWS * DIM * 4;
const plan = withTechniques(plainPlan('cpu'), { threads: { count: 2 } });
const everyRow = {
  batchSize: ROWS,
  bags: [
    {
      indices: Int32Array.from({ length: ROWS }, (_, i) => i),
      offsets: Int32Array.from({ length: ROWS }, (_, i) => i),
    },
  ],
};
const values = Float32Array.from({ length: ROWS * DIM }, (_, i) => (i % 1001) - 500);
const contents = (scale: number) => Buffer.from(values.map((x) => x * scale).buffer);

function tableIn(file: string): EmbeddingTable {
  const weight = { dtype: 'float32', shape: [ROWS, DIM], file, byteOffset: 0, byteLength: BYTES } as const;
  return { name: 'table', weight, rows: ROWS, dim: DIM, rowFormat: 'float32', mode: 'sum' };
}

let files = 0;
function newFile(): string {
  files += 1;
  const file = join(folder, `${files}.bin`);
  writeFileSync(file, contents(1));
  return file;
}

const changed = (file: string) => ({
  name: 'FormatError',
  code: 'FILE_CHANGED',
  message: new RegExp(`${file} `),
});

const CHANGES: Readonly<Record<string, (file: string) => void>> = {
  'cut to nothing': (file) => truncateSync(file, 0),
  'cut inside of a page': (file) => truncateSync(file, BYTES / 2 + 5),
  'cut inside of its last page': (file) => truncateSync(file, BYTES - 5),
  'cut, and filled up again': (file) => {
    truncateSync(file, 4096);
    truncateSync(file, BYTES);
  },
  'replaced in place by a shorter one': (file) => writeFileSync(file, contents(2).subarray(0, BYTES / 3)),
  'replaced in place by one of its size': (file) => writeFileSync(file, contents(2)),
  'appended to': (file) => appendFileSync(file, 'more'),
};

const KEPT: Readonly<Record<string, (file: string) => void>> = {
  touched: (file) => utimesSync(file, new Date(), new Date()),
  'replaced by renaming': (file) => {
    writeFileSync(`${file}.new`, contents(3).subarray(0, 100));
    renameSync(`${file}.new`, file);
  },
  removed: (file) => unlinkSync(file),
  linked: (file) => linkSync(file, `${file}.link`),
  'given other permissions': (file) => chmodSync(file, 0o400),
};

for (const [change, make] of Object.entries(CHANGES)) {
  test(`a file that is ${change}: every batch of everybody who maps it fails, a new placement is of what it holds now`, async () => {
    const file = newFile();
    using backend = new CpuBackend({ threads: 2 });
    await using one = await EmbeddingCollection.create(backend, [tableIn(file)], { plan });
    await using other = await EmbeddingCollection.create(backend, [tableIn(file)], { plan });
    const before = await one.forward(everyRow);
    assertSameBits(before.pooled, values, 'before');
    make(file);
    for (const collection of [one, one, other])
      await assert.rejects(collection.forward(everyRow), changed(file));
    writeFileSync(file, contents(1));
    await assert.rejects(one.forward(everyRow), changed(file));
    await using again = await EmbeddingCollection.create(backend, [tableIn(file)], { plan });
    assertSameBits((await again.forward(everyRow)).pooled, values, 'placed again');
  });
}

for (const [change, make] of Object.entries(KEPT)) {
  test(`a file that is ${change} goes on being read`, async () => {
    const file = newFile();
    using backend = new CpuBackend({ threads: 1 });
    await using collection = await EmbeddingCollection.create(backend, [tableIn(file)], {
      plan: plainPlan('cpu'),
    });
    make(file);
    for (let run = 0; run < 2; run++) {
      assertSameBits((await collection.forward(everyRow)).pooled, values, `run ${run}`);
    }
  });
}

describe('meanwhile', () => {
  test('a file that is cut and written while batches read it', async () => {
    const file = newFile();
    using backend = new CpuBackend({ threads: 2 });
    await using collection = await EmbeddingCollection.create(backend, [tableIn(file)], { plan });
    const running = Array.from({ length: 20 }, () => collection.forward(everyRow).catch((error) => error));
    for (let cut = 0; cut < 10; cut++) {
      truncateSync(file, 4096 * cut);
      copyFileSync(newFile(), file);
    }
    truncateSync(file, 0);
    for (const result of await Promise.all(running)) {
      if (result instanceof Error) assert.equal((result as { code?: string }).code, 'FILE_CHANGED');
    }
    await assert.rejects(collection.forward(everyRow), changed(file));
  });

  test('a file that is cut before it is mapped', async () => {
    const file = newFile();
    truncateSync(file, 100);
    using backend = new CpuBackend({ threads: 1 });
    await assert.rejects(EmbeddingCollection.create(backend, [tableIn(file)]), { code: 'FILE_TRUNCATED' });
  });
});

describe('signals that are not ours', () => {
  const afterLoading = (then: string) => {
    const source = `
      const { createPool } = await import('${new URL('../../../src/ffi/thread-pool.ts', import.meta.url)}');
      createPool(2, 'portable');
      ${then}`;
    const { status, signal, stdout } = spawnSync(
      process.execPath,
      ['--import', 'tsx', '--input-type=module', '--eval', source],
      { encoding: 'utf8' },
    );
    return { status, signal, stdout: stdout.trim() };
  };

  for (const name of ['SIGSEGV', 'SIGBUS'] as const) {
    test(`${name}, sent to the process, ends it`, () => {
      assert.equal(
        afterLoading(`process.kill(process.pid, '${name}'); setTimeout(() => {}, 5000);`).signal,
        name,
      );
    });
  }

  test('a read of no memory ends the process', () => {
    const read = `const { default: koffi } = await import('koffi'); new Uint8Array(koffi.view(8n, 8))[0];`;
    assert.equal(afterLoading(read).signal, 'SIGSEGV');
  });

  test('WebAssembly out of its bounds is an exception', () => {
    const bytes = [
      0, 97, 115, 109, 1, 0, 0, 0, 1, 6, 1, 96, 1, 127, 1, 127, 3, 2, 1, 0, 5, 3, 1, 0, 1, 7, 5, 1, 1, 108, 0,
      0, 10, 9, 1, 7, 0, 32, 0, 40, 2, 0, 11,
    ];
    const run = `
      const module = new WebAssembly.Module(new Uint8Array(${JSON.stringify(bytes)}));
      const { l } = new WebAssembly.Instance(module).exports;
      try { l(1 << 30); } catch (error) { console.log(error.name); }`;
    assert.deepEqual(afterLoading(run), { status: 0, signal: null, stdout: 'RuntimeError' });
  });
});
