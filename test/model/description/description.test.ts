import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { HotrowError, ModelError } from '../../../src/errors.ts';
import { parseDescription, readDescription } from '../../../src/model/description/description.ts';
import fc from '../../support/properties.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-description-'));
});
after(() => rm(folder, { recursive: true }));

const WHOLE = {
  kind: 'model',
  version: 1,
  checkpoint: 'dlrm.pt',
  prefix: 'net.',
  names: { 'tower.{i}.weight': 'bottom.{i}.weight', 'loss.{name}': null },
  tables: [{ name: 'ads' }, { name: 'users' }],
  features: [
    { name: 'clicked', table: 'ads', pooling: 'mean', paddingRow: 0, pruned: true, longestBag: 20 },
    {
      name: 'shown',
      table: 'ads',
      weighted: true,
      ids: { hash: 'xxhash64', seed: 1, modulus: 100 },
      missing: 'empty',
    },
    {
      name: 'user',
      table: 'users',
      ids: { vocabulary: ['a', 'b'] },
      unknown: { row: 0 },
      missing: { ids: ['a'] },
    },
  ],
  dense: [{ name: 'age', preprocessing: 'log(x + 3)' }],
  interaction: 'dot',
  triangle: 'upper',
  activations: { bottom: ['relu'], top: ['relu', 'none'] },
  output: 'logit',
  guesses: { '/features': 'why' },
};

function refuses(change: (description: typeof WHOLE) => unknown, key: RegExp): void {
  const value = change(structuredClone(WHOLE));
  assert.throws(
    () => parseDescription(value),
    (error: unknown) => {
      assert.ok(error instanceof ModelError, String(error));
      assert.equal(error.code, 'DESCRIPTION_INVALID');
      assert.match(error.message, key);
      return true;
    },
  );
}

test('a whole description, and the least', () => {
  assert.deepEqual(parseDescription(WHOLE), WHOLE);
  parseDescription({ kind: 'model', version: 1, checkpoint: 'x.pt' });
});

describe('members that cannot be are named', () => {
  const feature =
    (change: object, i = 0) =>
    (whole: typeof WHOLE) => {
      whole.features[i] = { ...whole.features[i], ...change } as never;
      return whole;
    };
  const cases: readonly (readonly [string, (whole: typeof WHOLE) => unknown, RegExp])[] = [
    ['no object', () => [], /^\/ is not an object/],
    ['another kind', (whole) => ({ ...whole, kind: 'bench' }), /^\/kind is "bench"/],
    ['no kind', ({ kind: _, ...rest }) => rest, /^\/kind is missing/],
    ['a later version', (whole) => ({ ...whole, version: 2 }), /^\/version is 2/],
    ['an unknown member', (whole) => ({ ...whole, table: [] }), /^\/table is not a member here: .*tables, /],
    [
      'an unknown member of a feature',
      feature({ pool: 'sum' }),
      /^\/features\/0\/pool is not a member here: .*pooling, /,
    ],
    ['no checkpoint', ({ checkpoint: _, ...rest }) => rest, /^\/ lacks "checkpoint"/],
    [
      'a checkpoint that is a number',
      (whole) => ({ ...whole, checkpoint: 1 }),
      /^\/checkpoint is 1: it must be/,
    ],
    [
      'a pooling that is none',
      feature({ pooling: 'avg' }),
      /^\/features\/0\/pooling is "avg", not "sum", "mean", "max"/,
    ],
    [
      'a negative padding row',
      feature({ paddingRow: -1 }),
      /^\/features\/0\/paddingRow is -1: it must be >= 0/,
    ],
    [
      'an unknown that is none',
      feature({ unknown: 'row' }, 2),
      /^\/features\/2\/unknown is "row"; it may be "error", "skip", \{"row"\}/,
    ],
    [
      'a row for unknown ids that is none',
      feature({ unknown: { row: -1 } }, 2),
      /^\/features\/2\/unknown\/row is -1/,
    ],
    [
      'names onto numbers',
      (whole) => ({ ...whole, names: { 'a.{i}': 5 } }),
      /^\/names\/a\.\{i\} is 5; it may be a string, a null/,
    ],
    [
      'a list of features that is none',
      (whole) => ({ ...whole, features: {} }),
      /^\/features is an object: it must be array/,
    ],
    [
      'a vocabulary with an id twice',
      feature({ ids: { vocabulary: ['a', 'b', 'a'] } }, 2),
      /^\/features\/2\/ids\/vocabulary has "a" twice/,
    ],
    [
      'missing ids that are unknown',
      feature({ missing: { ids: ['c'] }, unknown: 'error' }, 2),
      /^\/features\/2\/missing\/ids has "c", which the vocabulary lacks/,
    ],
    [
      'a table that is not there',
      feature({ table: 'cars' }, 1),
      /^\/features\/1\/table "cars" is none of the tables/,
    ],
    ['a name twice', feature({ name: 'user' }), /^\/features\/2\/name "user" stands twice/],
    ['weights with a mean', feature({ weighted: true }), /^\/features\/0\/weighted contradicts pooling mean/],
    ['a row for unknown rows', feature({ unknown: 'skip' }), /^\/features\/0\/unknown/],
    ['a row for unknown hashes', feature({ unknown: { row: 1 } }, 1), /^\/features\/1\/unknown/],
    ['strings for rows', feature({ missing: { ids: ['a'] } }), /^\/features\/0\/missing\/ids/],
    ['integers for strings', feature({ missing: { ids: [1] } }, 2), /^\/features\/2\/missing\/ids/],
    [
      'a vocabulary of both',
      feature({ ids: { vocabulary: ['a', 1] } }, 2),
      /^\/features\/2\/ids\/vocabulary\/1 is 1/,
    ],
    [
      'a hash that is none',
      feature({ ids: { hash: 'md5', modulus: 3 } }, 1),
      /^\/features\/1\/ids\/hash is "md5", not "modulo", /,
    ],
    [
      'a hash without a modulus',
      feature({ ids: { hash: 'modulo' } }, 1),
      /^\/features\/1\/ids lacks "modulus"/,
    ],
    [
      'a table twice',
      (whole) => ({ ...whole, tables: [{ name: 'ads' }, { name: 'ads' }] }),
      /^\/tables\/1\/name/,
    ],
    [
      'a table that nothing reads',
      (whole) => ({ ...whole, tables: [...whole.tables, { name: 'x' }] }),
      /^\/tables\/2 "x" is read by no feature/,
    ],
    [
      'a number twice',
      (whole) => ({ ...whole, dense: [...whole.dense, ...whole.dense] }),
      /^\/dense\/1\/name/,
    ],
  ];
  for (const [name, change, key] of cases) test(name, () => refuses(change, key));
});

test('whatever is changed: a description or a typed error', () => {
  const paths: (readonly (string | number)[])[] = [];
  const walk = (value: unknown, path: readonly (string | number)[]) => {
    if (path.length > 0) paths.push(path);
    if (typeof value === 'object' && value !== null)
      for (const [key, part] of Object.entries(value))
        walk(part, [...path, Array.isArray(value) ? Number(key) : key]);
  };
  walk(WHOLE, []);
  fc.assert(
    fc.property(fc.constantFrom(...paths), fc.jsonValue(), fc.boolean(), (path, value, gone) => {
      const changed: unknown = structuredClone(WHOLE);
      const parent = path
        .slice(0, -1)
        .reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], changed);
      const key = path.at(-1) as string;
      if (gone) delete (parent as Record<string, unknown>)[key];
      else (parent as Record<string, unknown>)[key] = value;
      try {
        parseDescription(changed);
      } catch (error) {
        assert.ok(error instanceof HotrowError, `${(error as Error).stack}`);
      }
    }),
    { numRuns: 2000 },
  );
});

describe('files', () => {
  const put = async (name: string, value: unknown) => {
    const file = join(folder, name);
    await writeFile(file, typeof value === 'string' ? value : JSON.stringify(value));
    return file;
  };

  test('a vocabulary may stand in a file of its own', async () => {
    await put('words.json', ['x', 'y']);
    const features = [{ name: 'f', table: 't', ids: { vocabulary: 'words.json' } }];
    const file = await put('v.hotrow.json', { kind: 'model', version: 1, checkpoint: 'x.pt', features });
    const found = await readDescription(file);
    assert.deepEqual(found.description.features?.[0]?.ids, { vocabulary: ['x', 'y'] });
    assert.equal(found.checkpoint, join(folder, 'x.pt'));
    await put('words.json', { x: 0 });
    await assert.rejects(readDescription(file), {
      code: 'DESCRIPTION_INVALID',
      message: /\/features\/0\/ids\/vocabulary/,
    });
  });

  test('errors name the file', async () => {
    const file = await put('bad.hotrow.json', { kind: 'model', version: 1 });
    await assert.rejects(readDescription(file), {
      code: 'DESCRIPTION_INVALID',
      message: /^.*bad\.hotrow\.json: .*checkpoint/,
    });
    const twice = await put(
      'twice.hotrow.json',
      '{"kind": "model", "kind": "model", "version": 1, "checkpoint": "x"}',
    );
    await assert.rejects(readDescription(twice), { code: 'JSON_INVALID', message: /twice/ });
    await assert.rejects(readDescription(await put('text.hotrow.json', 'hello')), { code: 'FORMAT_UNKNOWN' });
  });

  test('a confined description stays in its folder, links included', async () => {
    const inner = join(folder, 'inner');
    await mkdir(inner);
    await writeFile(join(folder, 'outside.pt'), '');
    await symlink(join(folder, 'outside.pt'), join(inner, 'link.pt'));
    for (const [checkpoint, leaves] of [
      ['own.pt', false],
      ['deeper/own.pt', false],
      ['../outside.pt', true],
      ['deeper/../../outside.pt', true],
      [join(folder, 'outside.pt'), true],
      ['link.pt', true],
    ] as const) {
      const file = await put('inner/c.hotrow.json', { kind: 'model', version: 1, checkpoint });
      await readDescription(file);
      const confined = readDescription(file, { confined: true });
      if (leaves)
        await assert.rejects(
          confined,
          { code: 'DESCRIPTION_INVALID', message: /\/checkpoint .*leaves/ },
          checkpoint,
        );
      else await confined;
    }
  });
});
