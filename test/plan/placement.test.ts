import assert from 'node:assert/strict';
import { test } from 'node:test';
import { openBackend } from '../../src/backend/open-backend.ts';
import { EmbeddingCollection } from '../../src/model/collection.ts';
import { checkPlacement, devicePlacement, parsePlacement, placementLabel } from '../../src/plan/placement.ts';
import { randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';

const random = new Random(1);
const tables = ['user', 'item'].map((name) => randomTable(random, { name, rows: 5, dim: 4 }));

test('a placement is plain data that reads back', () => {
  const placement = devicePlacement(tables);
  assert.deepEqual(parsePlacement(JSON.parse(JSON.stringify(placement))), placement);
  assert.equal(placementLabel(placement), '2 tables on the device');
  checkPlacement(placement, tables);
});

test('what is no placement is refused, with the member that is wrong', () => {
  const entry = { table: 'user', rows: 'device' };
  for (const [given, message] of [
    [{ version: 2, tables: [] }, /\/version/],
    [{ version: 1, tables: [{ ...entry, rows: 'moon' }] }, /\/tables\/0\/rows/],
    [{ version: 1, tables: [{ ...entry, colour: 'red' }] }, /\/tables\/0/],
    [{ version: 1, tables: {} }, /\/tables/],
    ['device', /placement: \//],
    [undefined, /placement: \//],
    [null, /placement: \//],
  ] as const)
    assert.throws(() => parsePlacement(given), { code: 'PLACEMENT_INVALID', message });
});

test('a placement of other tables is refused before any work', async () => {
  const { backend } = openBackend({ device: 'cpu' });
  using _ = backend;
  const [user, item] = devicePlacement(tables).tables;
  for (const [placed, message] of [
    [[user], /has 1 tables, the model 2/],
    [[item, user], /table 0 is item, the model's is user/],
  ] as const) {
    const placement = { version: 1, tables: placed } as ReturnType<typeof devicePlacement>;
    const illegal = { code: 'PLACEMENT_ILLEGAL', message };
    await assert.rejects(EmbeddingCollection.create(backend, tables, { placement }), illegal);
  }
  await using collection = await EmbeddingCollection.create(backend, tables, {
    placement: devicePlacement(tables),
  });
  assert.deepEqual(collection.placement, devicePlacement(tables));
});

test('a placement of fewer, more, or other tables is illegal', () => {
  const placement = devicePlacement(tables);
  const [first, second] = placement.tables as [
    (typeof placement.tables)[number],
    (typeof placement.tables)[number],
  ];
  for (const own of [[first], [first, second, second], [second, first], []])
    assert.throws(() => checkPlacement({ ...placement, tables: own }, tables), { code: 'PLACEMENT_ILLEGAL' });
});
