/** Architectures whose parts run the caller's code when they are read: each is refused as what it is. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HotrowError } from '../../src/errors.ts';
import { checkArchitecture } from '../../src/model/check-architecture.ts';
import { branchingModel, deepFmModel, INTERACTIONS, smallModel, tablesModel } from '../support/models.ts';
import { Random } from '../support/random.ts';

class CallersError extends Error {}
const throws = (): never => {
  throw new CallersError('a getter of the caller');
};

/** The ways to each object and list in a value, the value itself among them; arrays of numbers are left out. */
function partsOf(value: unknown, way: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return [];
  return [way, ...Object.entries(value).flatMap(([key, own]) => partsOf(own, [...way, key]))];
}

/** A copy of `value` in which the part at `way` is what `change` makes of it. */
function changed(value: unknown, way: readonly string[], change: (part: object) => unknown): unknown {
  const [key, ...rest] = way;
  if (key === undefined) return change(value as object);
  const copy = (Array.isArray(value) ? [...value] : { ...(value as object) }) as Record<string, unknown>;
  copy[key] = changed(copy[key], rest, change);
  return copy;
}

const random = new Random(3);
const ARCHITECTURES = [
  ...INTERACTIONS.map((kind) => [kind, smallModel(random, kind)] as const),
  ['DeepFM', deepFmModel(random)] as const,
  ['branches', branchingModel(random)] as const,
  ['tables alone', tablesModel(random)] as const,
];

for (const [name, architecture] of ARCHITECTURES) {
  test(`${name}: a part that throws when it is read is refused, wherever it is`, () => {
    const ways = partsOf(architecture);
    assert.ok(ways.length > 5);
    for (const way of ways) {
      const hostile: readonly ((part: object) => unknown)[] = [
        (part) => new Proxy(part, { get: throws }),
        (part) => new Proxy(part, { ownKeys: throws, get: throws, has: throws, getPrototypeOf: throws }),
        ...Object.keys(way.reduce((part: unknown, key) => (part as never)[key], architecture) as object).map(
          (key) => (part: object) =>
            Object.defineProperty(Array.isArray(part) ? [...part] : { ...part }, key, { get: throws }),
        ),
      ];
      for (const change of hostile)
        assert.throws(
          () => checkArchitecture(changed(architecture, way, change)),
          (error) => error instanceof HotrowError && (error.code as string) !== 'INTERNAL',
          `at ${way.join('.')}`,
        );
    }
    assert.equal(checkArchitecture(architecture).tables.length, architecture.tables.length);
  });
}
