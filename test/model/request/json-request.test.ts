/** Requests in JSON and JSON Lines. */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import Value from 'typebox/value';
import type { HotrowError } from '../../../src/errors.ts';
import { jsonRequest, readJsonRequest } from '../../../src/model/request/json-request.ts';
import { parseSamples, requestSchema } from '../../../src/model/request/json-samples.ts';
import {
  firstSample as first,
  jsonInputs as inputs,
  readLines as lines,
  readJson as read,
  secondSample as second,
} from '../../support/json-requests.ts';
import { expanded, refuses } from '../../support/request-tensors.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-json-'));
after(() => rmSync(folder, { recursive: true }));

const both = {
  dense: [
    [1, 2],
    [3, 4],
  ],
  bags: [
    [[1, 2], []],
    [[1], []],
    [[1], [0, 1]],
  ],
};

describe('read', () => {
  test('one sample', async () =>
    assert.deepEqual(await read(first), { dense: [[1, 2]], bags: [[[1, 2]], [[1]], [[1]]] }));
  test('many', async () => assert.deepEqual(await read({ samples: [first, second] }), both));
  test('one a line', async () => assert.deepEqual(await lines(first, '', second, ''), both));
  test('one a line, lines ended as Windows does', async () =>
    assert.deepEqual(await lines(`${JSON.stringify(first)}\r`, `${JSON.stringify(second)}\r`), both));
  test('over several lines', async () =>
    assert.deepEqual(
      expanded(await jsonRequest(JSON.stringify({ samples: [first, second] }, null, 2), inputs)),
      both,
    ));
  test('none', async () => assert.deepEqual(await read({ samples: [] }), { dense: [], bags: [[], [], []] }));

  test('dense by name is preprocessed, null counts as 0', async () =>
    assert.deepEqual((await read({ dense: { y: null, x: Math.E - 1 }, features: { ads: [] } })).dense, [
      [1, 0],
    ]));
  test('weights, and what has none', async () => {
    const weighted = { dense: [1, 2], features: { ads: { ids: [1, '2'], weights: [0.5, 2] } } };
    const plain = { dense: [1, 2], features: { ads: { ids: [] }, big: { ids: [5] } } };
    const { bags } = await read({ samples: [weighted, plain] });
    assert.deepEqual(bags, [
      [
        { rows: [1, 2], weights: [0.5, 2] },
        { rows: [], weights: [] },
      ],
      [[], []],
      [[1], [0]],
    ]);
  });
  test('default ids weigh 1 where others bring weights', async () => {
    const samples = [
      { ...first, features: { ads: [1], big: { ids: [5], weights: [3] } } },
      { ...first, features: { ads: [1] } },
    ];
    assert.deepEqual((await read({ samples })).bags[2], [
      { rows: [0], weights: [3] },
      { rows: [1], weights: [1] },
    ]);
  });
  test('a name of the prototype is a name', async () => {
    const text = '{"dense": [1, 2], "features": {"ads": [1], "city": ["__proto__"]}}';
    assert.deepEqual(expanded(await jsonRequest(text, inputs)).bags[1], [[2]]);
  });
  test('a table by its number', async () =>
    assert.deepEqual((await read({ dense: [1, 2], features: { 0: [3] } })).bags[0], [[3]]));

  test('a user and candidates', async () => {
    const request = await jsonRequest(
      JSON.stringify({
        user: { dense: [7], features: { city: ['a', 'b'] } },
        candidates: [
          { dense: [1], features: { ads: [1] } },
          { dense: [2], features: { ads: [2, 3], big: [5] } },
        ],
      }),
      inputs,
    );
    assert.deepEqual(request.users, Int32Array.of(0, 2));
    assert.equal(request.bags[1]?.perUser, true);
    assert.deepEqual(expanded(request), {
      dense: [
        [7, 1],
        [7, 2],
      ],
      bags: [
        [[1], [2, 3]],
        [
          [0, 1],
          [0, 1],
        ],
        [[1], [0]],
      ],
    });
  });
  test('a user with dense by name', async () => {
    const candidates = [
      { dense: { x: 0 }, features: { ads: [1] } },
      { dense: { x: null }, features: { ads: [2] } },
    ];
    assert.deepEqual((await read({ user: { dense: { y: 5 } }, candidates })).dense, [
      [0, 5],
      [0, 5],
    ]);
  });
  test('a user with all dense, and with none', async () => {
    const candidates = [{ features: { ads: [1] } }, { features: { ads: [2] } }];
    assert.deepEqual((await read({ user: { dense: [1, 2] }, candidates })).dense, [
      [1, 2],
      [1, 2],
    ]);
    assert.deepEqual((await read({ user: { dense: { x: 0, y: 2 } }, candidates })).dense, [
      [0, 2],
      [0, 2],
    ]);
    assert.deepEqual((await read({ user: {}, candidates: [{ ...candidates[0], dense: [1, 2] }] })).dense, [
      [1, 2],
    ]);
  });
  test('a user without candidates', async () => {
    for (const dense of [[1], { x: 1 }])
      assert.deepEqual((await read({ user: { dense, features: { ads: [1] } }, candidates: [] })).dense, []);
  });
});

describe('files', () => {
  const file = async (name: string, contents: string | Uint8Array) => {
    const path = join(folder, name);
    await writeFile(path, contents);
    return path;
  };
  test('plain, gzipped, with a byte order mark', async () => {
    const text = `\uFEFF${JSON.stringify({ samples: [first, second] })}`;
    assert.deepEqual(expanded(await readJsonRequest(await file('r.json', text), inputs)), both);
    assert.deepEqual(expanded(await readJsonRequest(await file('r.json.gz', gzipSync(text)), inputs)), both);
  });
  test('errors name the file', async () => {
    const path = await file('bad.json', '{"dense": 3}');
    const error = await refuses(readJsonRequest(path, inputs), 'REQUEST_INVALID', { file: path });
    assert.ok(error.message.startsWith(`${path}: sample 0, dense: 3 is not`), error.message);
  });
  for (const [what, contents] of [
    ['an empty file', ''],
    ['white space', ' \n '],
    ['no JSON', 'dense: 3'],
    ['NaN', '{"dense": [NaN, 1]}'],
    ['a piece of JSON', '{"dense": [1,'],
    ['no UTF-8', Uint8Array.of(0x22, 0xff, 0x22)],
    ['a piece of a character', Uint8Array.of(0x22, 0xc3)],
  ] as const)
    test(`${what}: JSON_INVALID`, async () => {
      const path = await file('invalid.json', contents);
      const error = await readJsonRequest(path, inputs).then(
        () => assert.fail('was read'),
        (cause: HotrowError) => cause,
      );
      assert.equal(error.code, 'JSON_INVALID');
      assert.equal(error.details.file, path);
    });
  test('too large', async () => {
    const path = await file('large.json', '');
    await truncate(path, (64 << 20) + 1);
    await assert.rejects(readJsonRequest(path, inputs), {
      code: 'JSON_INVALID',
      message: /more than 64 MiB/,
    });
  });
  test('nothing there', () =>
    assert.rejects(readJsonRequest(join(folder, 'nothing.json'), inputs), { code: 'FILE_NOT_FOUND' }));
});

test('the examples of docs/requests.md fit the schema, and are read as samples', () => {
  const page = readFileSync(new URL('../../../docs/requests.md', import.meta.url), 'utf8');
  const examples = [...page.matchAll(/```json\n(.*?)```/gs)].map(([, text]) => JSON.parse(text as string));
  assert.equal(examples.length, 3);
  for (const example of examples) {
    assert.ok(Value.Check(requestSchema, example));
    assert.ok(parseSamples(example).samples.length > 0);
  }
});
