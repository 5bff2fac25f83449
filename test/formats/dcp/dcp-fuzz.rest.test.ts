/** Metadata changed at any place of its objects: every checkpoint is refused with a typed error, or read right. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { readDcp } from '../../../src/formats/dcp/dcp.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import {
  type DcpDescription,
  metadataObject,
  pickle,
  putCheckpoint,
  size,
  twoShards,
} from '../../support/dcp.ts';
import fc from '../../support/properties.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-dcp-fuzz-'));
});
after(() => rm(folder, { recursive: true }));

/** Bytes of both shards. */
const SHARD_BYTES = 1641 + 1577;

/** A table in two chunks, an empty one, an optimizer's, and an entry that is no tensor. */
function description(): DcpDescription {
  const described = twoShards();
  const { tensors, items } = described;
  const table = tensors.get('t');
  assert.ok(table !== undefined && table !== 'bytes');
  tensors.set('empty', { ...table, size: size(0, 4), chunks: [{ offsets: size(0, 0), sizes: size(0, 4) }] });
  tensors.set('optimizer.state.t', structuredClone(table));
  tensors.set('epoch', 'bytes');
  items.push({ fqn: 'epoch', offset: null, relative_path: '__0_0.distcp', start: 0, length: 5 });
  const names = [...tensors.keys()].map((name): [string, string[]] => [name, name.split('.')]);
  return { ...described, planner: new Map(names) };
}

/** Every place of a value where another value can stand. */
function places(value: unknown): ((other: unknown) => void)[] {
  if (typeof value !== 'object' || value === null) return [];
  if (value instanceof Map) {
    return [...value].flatMap(([key, item]) => [
      (other) => value.set(key, other),
      (other) => {
        value.delete(key);
        value.set(other, item);
      },
      () => value.delete(key),
      ...places(key),
      ...places(item),
    ]);
  }
  const own = Object.entries(value).flatMap(([key, item]) => [
    (other: unknown) => Object.assign(value, { [key]: other }),
    ...places(item),
  ]);
  return Array.isArray(value) ? [...own, (other) => value.push(other), () => value.pop()] : own;
}

const deep = (levels: number): unknown => {
  let nested: unknown = [];
  for (let i = 0; i < levels; i++) nested = [nested];
  return nested;
};

const anything = fc.oneof(
  fc.integer({ min: -2, max: 9 }),
  fc.constantFrom<unknown>(
    2 ** 31,
    2n ** 53n,
    2n ** 62n,
    -(2n ** 80n),
    0.5,
    null,
    true,
    [],
    [[]],
    deep(300),
    new Map(),
    '',
  ),
  fc.constantFrom<unknown>(
    't',
    'empty',
    '__0_0.distcp',
    '../__0_0.distcp',
    'torch.strided',
    { global: 'torch float32' },
    { global: 'torch float64' },
    { global: 'torch uint8' },
    { global: 'os system' },
  ),
  fc.array(fc.integer({ min: 0, max: 7 }), { maxLength: 3 }).map((extents) => size(...extents)),
  fc.array(fc.nat(8), { maxLength: 3 }),
  fc.string({ maxLength: 8 }),
);

/** Names of an object's module, name and arguments stay texts and lists: the pickler writes what Python could. */
function isPickled(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true;
  if (value instanceof Map) return [...value].flat().every(isPickled);
  if (Array.isArray(value)) return value.every(isPickled);
  const { module, name, args, global, tuple } = value as Record<string, unknown>;
  if (global !== undefined) return typeof global === 'string' && /^[\w.]+ [\w.]+$/.test(global);
  if (tuple !== undefined) return Array.isArray(tuple) && tuple.every(isPickled);
  const names = [module, name].every((part) => typeof part === 'string' && /^[\w.]+$/.test(part));
  return names && Array.isArray(args) && Object.values(value).every(isPickled);
}

test('changed metadata is refused by a typed error, or describes no more than the files hold', async () => {
  const file = putCheckpoint(folder, description());
  const seen = new Set<string>();
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.noBias(fc.nat()), anything), { minLength: 1, maxLength: 3 }),
      async (changes) => {
        const object = metadataObject(description());
        for (const [where, other] of changes) {
          const all = places(object);
          all[where % all.length]?.(structuredClone(other));
        }
        fc.pre(isPickled(object));
        await writeFile(file, pickle(object));
        try {
          const { tensors } = await readDcp(file);
          const bytes = [...tensors.values()].reduce((sum, { byteLength }) => sum + byteLength, 0);
          assert.ok(bytes <= SHARD_BYTES, `${bytes} bytes`);
          for (const tensor of tensors.values()) await readTensor(tensor);
          seen.add('read');
        } catch (error) {
          assert.ok(error instanceof HotrowError, String((error as Error).stack));
          seen.add(error.code);
        }
      },
    ),
    { numRuns: 600 },
  );
  for (const outcome of ['read', 'DCP_INVALID'])
    assert.ok(seen.has(outcome), `${outcome} never came up: ${[...seen]}`);
});

test('changed bytes of the pickle are refused by a typed error, or read', async () => {
  const bytes = pickle(metadataObject(description()));
  const file = putCheckpoint(folder, bytes);
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.noBias(fc.nat()), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      async (changes) => {
        const changed = Buffer.from(bytes);
        for (const [at, byte] of changes) changed[at % changed.length] = byte;
        await writeFile(file, changed);
        const read = await readDcp(file).catch((error) => {
          assert.ok(error instanceof HotrowError, String((error as Error).stack));
        });
        for (const tensor of read?.tensors.values() ?? []) assert.ok(tensor.byteLength <= SHARD_BYTES);
      },
    ),
    { numRuns: 500 },
  );
});
