import assert from 'node:assert/strict';
import { test } from 'node:test';
import { orderTables, type TableOrder } from '../../../src/model/checkpoint/table-order.ts';

const order = (names: readonly string[], how: TableOrder) => {
  const { tables, source, note } = orderTables(
    names.map((name) => ({ name })),
    how,
  );
  return { names: tables.map(({ name }) => name), source, note };
};

test('an order that was saved is kept, and said where numbers disagree', () => {
  const kept = order(['t_cat_1', 't_cat_0', 't_cat_2'], 'saved');
  assert.deepEqual(kept.names, ['t_cat_1', 't_cat_0', 't_cat_2']);
  assert.match(kept.note ?? '', /not in that of their numbers/);
  assert.equal(order(['t_cat_0', 't_cat_1'], 'saved').note, undefined);
  assert.equal(order(['large', 'small'], 'saved').note, undefined);
  assert.match(order(['t_0', 't_7', 't_3'], 'saved').note ?? '', /not in that of their numbers/);
  assert.match(order(['t_1_v2', 't_0_v2'], 'saved').note ?? '', /not in that of their numbers/);
  assert.equal(order(['t_2', 't_3', 't_7'], 'saved').note, undefined);
});

test('a file that sorts its tensors: complete numbers of one stem, from 0 or 1, with a note', () => {
  const names = Array.from({ length: 12 }, (_, t) => `t_cat_${t}`);
  const sorted = order([...names].sort(), 'unsaved');
  assert.deepEqual(sorted.names, names);
  assert.match(sorted.note ?? '', /in the order of their numbers/);
  assert.deepEqual(
    order(['C10', 'C1', 'C2', 'C3', 'C4', 'C5', 'C6', 'C7', 'C8', 'C9'], 'unsaved').names[9],
    'C10',
  );
  assert.deepEqual(order(['only'], 'unsaved').names, ['only']);
});

test('the number that tells names apart may stand anywhere in them, with zeros before it', () => {
  for (const name of [(t: number) => `cat_${t}_v2`, (t: number) => `v2.cat_${String(t).padStart(2, '0')}`]) {
    const names = Array.from({ length: 11 }, (_, t) => name(t));
    assert.deepEqual(order([...names].sort(), 'unsaved').names, names);
  }
});

test('anything else is refused with what to do', () => {
  for (const names of [
    ['large', 'small'],
    ['t_0', 't_2'],
    ['t_2', 't_3'],
    ['ads_0', 'user_1'],
    ['t_0', 't_1', 'user'],
    ['t_0_a', 't_1_b'],
    ['t_0', 't_00'],
    ['t_0_1', 't_1_0'],
    ['t_0', 't_1', 't_1_2'],
  ]) {
    assert.throws(
      () => order(names, 'unsaved'),
      (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, 'ARCHITECTURE_AMBIGUOUS', names.join());
        assert.match(error.hint ?? '', /--write-description/);
        return true;
      },
    );
  }
});

test('an order by names has every table once', () => {
  const from = 'the metadata';
  assert.deepEqual(order(['a', 'b', 'c'], { names: ['c', 'a', 'b'], from }).names, ['c', 'a', 'b']);
  for (const names of [
    ['c', 'a'],
    ['c', 'a', 'b', 'd'],
    ['c', 'a', 'a'],
    ['a', 'b', 'c', 'c'],
  ])
    assert.throws(() => order(['a', 'b', 'c'], { names, from }), { code: 'CHECKPOINT_INCONSISTENT' });
});
