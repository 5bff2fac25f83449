import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PRESETS } from '../../src/bench/presets.ts';
import { bottomWidth, interactionWidth } from '../../src/model/architecture.ts';

import { parseTableBagLengths } from '../../src/workload/bag-lengths.ts';
import { createRandom } from '../../src/workload/random.ts';

for (const [name, { architecture, bagLengths }] of Object.entries(PRESETS)) {
  test(`${name}: the layers fit each other and the tables`, () => {
    for (const shape of [{}, { tables: 3, rows: 50 }]) {
      // Rows are synthetic: nothing of their size is made.
      const model = architecture(shape);
      const { bottom, top, tables, interaction } = model;
      let width = model.denseFeatures;
      for (const { inputs, outputs, weight } of bottom) {
        assert.equal(inputs, width);
        assert.deepEqual(weight.shape, [outputs, inputs]);
        width = outputs;
      }
      width = interactionWidth(
        interaction,
        bottomWidth(model),
        tables.map(({ dim }) => dim),
      );
      for (const { inputs, outputs } of top) {
        assert.equal(inputs, width);
        width = outputs;
      }
      assert.equal(width, 1);
      assert.equal(parseTableBagLengths(bagLengths(shape), tables.length).length, tables.length);
    }
  });
}

test('mlperf: 204,184,588 rows, 104.5 GB, 214 lookups a sample', () => {
  const { tables } = PRESETS.mlperf.architecture({});
  assert.equal(
    tables.reduce((sum, { rows }) => sum + rows, 0),
    204_184_588,
  );
  const random = createRandom(1);
  const lookups = parseTableBagLengths(PRESETS.mlperf.bagLengths({}), 26).map(({ draw }) => draw(random));
  assert.equal(
    lookups.reduce((sum, count) => sum + count, 0),
    214,
  );
  assert.throws(() => PRESETS.mlperf.architecture({ tables: 27 }), { code: 'USAGE', message: /26 tables/ });
});

test('bag lengths for each table, and for another number of them', () => {
  assert.throws(() => parseTableBagLengths('3/2', 3), {
    code: 'USAGE',
    message: /2 tables, and there are 3/,
  });
  assert.throws(() => parseTableBagLengths('3//1', 3), { code: 'USAGE' });
  assert.deepEqual(
    parseTableBagLengths('3/uniform:2:2', 2).map(({ draw }) => draw(createRandom(1))),
    [3, 2],
  );
});

test('tables that no layer could take the products of are refused', () => {
  for (const name of ['quick', 'paper', 'artifact', 'model'] as const)
    assert.throws(() => PRESETS[name].architecture({ tables: 100_000 }), {
      code: 'USAGE',
      message: new RegExp(`--preset ${name}: .*100000 tables`),
    });
});

test('mixed: no two tables alike, dims 16 to 256, rows 10 to 10^6, bags 1 to 150', () => {
  const { tables } = PRESETS.mixed.architecture({});
  const lengths = PRESETS.mixed.bagLengths({}).split('/');
  const kinds = tables.map(({ dim, rows }, t) => [dim, rows, lengths[t]].join());
  assert.equal(new Set(kinds).size, tables.length);
  for (const rows of new Set(tables.map((table) => table.rows))) {
    const own = lengths.filter((_, t) => tables[t]?.rows === rows);
    assert.deepEqual([...new Set(own)].sort(), ['1', '150', 'poisson:30', 'uniform:1:10']);
  }
  const dims = tables.map(({ dim }) => dim);
  assert.deepEqual([Math.min(...dims), Math.max(...dims)], [16, 256]);
  assert.throws(() => PRESETS.mixed.architecture({ tables: 21 }), { code: 'USAGE', message: /20 tables/ });
  assert.throws(() => PRESETS.mixed.architecture({ dim: 8 }), {
    code: 'USAGE',
    message: /dims of their own/,
  });
});
