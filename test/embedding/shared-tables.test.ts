import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import type { EmbeddingTable } from '../../src/embedding/bag.ts';
import {
  checkSharing,
  distinctTables,
  sharesTables,
  tableNumbers,
} from '../../src/embedding/shared-tables.ts';
import { placeCollection } from '../../src/model/collection.ts';
import { hugePages } from '../../src/plan/techniques/huge-pages.ts';
import type { PlanContext } from '../../src/plan/techniques/technique.ts';
import { randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';

const random = new Random(1);
const [a, b] = [9, 9].map((dim, i) => randomTable(random, { name: 'ab'[i] as string, rows: 20, dim })) as [
  EmbeddingTable,
  EmbeddingTable,
];
const again: EmbeddingTable = { ...a, name: 'a again', mode: 'mean' };

test('features with one weight are on one table; equal weights of their own are not', () => {
  const equal: EmbeddingTable = { ...a, weight: structuredClone(a.weight) };
  const features = [b, a, again, equal, b];
  assert.deepEqual(tableNumbers(features), [0, 1, 1, 2, 0]);
  assert.deepEqual(distinctTables(features), [b, a, equal]);
  assert.equal(sharesTables(features), true);
  assert.equal(sharesTables([a, b, equal]), false);
  assert.deepEqual(distinctTables([]), []);
});

test('shapes without a weight are tables of their own', () => {
  const shape: PlanContext['tables'][number] = { rows: 3, dim: 2, rowFormat: 'float32' };
  assert.deepEqual(tableNumbers([shape, shape]), [0, 1]);
});

test('features that read one table in two ways are refused', async () => {
  checkSharing([a, again, b]);
  const quantised = randomTable(random, { name: 'first', rows: 8, dim: 12, rowFormat: 'int8' });
  // Both have rows of 16 bytes.
  for (const other of [
    { ...quantised, name: 'second', dim: 16, rowFormat: 'float8_e4m3' },
    { ...quantised, name: 'second', dim: 11 },
  ] as const) {
    using backend = new CpuBackend({ threads: 1 });
    await assert.rejects(placeCollection(backend, [quantised, other], 'plain'), {
      code: 'TENSOR_SHAPE',
      message: /table second: its weight is that of first, which reads it as \[8, 12\] int8, not \[8, 1/,
    });
  }
});

test('what huge pages cost counts a table once', () => {
  const device = {
    kind: 'cpu',
    id: 'cpu',
    name: '',
    architecture: '',
    threads: 1,
    memoryBytes: 1,
    versions: {},
  } as const;
  const { memoryBytes } = hugePages.devices.cpu.cost({}, { device, tables: [a, again, b] });
  assert.equal(memoryBytes, 2 * 20 * 9 * 4);
});
