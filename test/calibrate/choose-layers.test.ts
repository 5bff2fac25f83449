import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chooseLayers } from '../../src/calibrate/choose-layers.ts';

/** Losses that add up, and what was asked for. */
function additive(losses: readonly number[]) {
  const asked: string[] = [];
  const lossOf = async (layers: ReadonlySet<number>) => {
    asked.push([...layers].sort().join());
    return [...layers].reduce((sum, i) => sum + (losses[i] as number), 0);
  };
  return { asked, lossOf };
}

const layers = (...multiplyAdds: number[]) => multiplyAdds.map((own) => ({ multiplyAdds: own }));

test('all layers where they lose little enough together', async () => {
  const { asked, lossOf } = additive([1, 2, 3]);
  const { alone, chosen, loss } = await chooseLayers(layers(1, 1, 1), 6, lossOf);
  assert.deepEqual([alone, [...chosen].sort(), loss], [[1, 2, 3], [0, 1, 2], 6]);
  assert.equal(asked.filter((set) => set === '0,1,2').length, 1);
});

test('else those first that lose least for their multiply-adds; one that does not fit leaves room for others', async () => {
  // Per multiply-add: 0.1, 2, 0.5, 0.2.
  const { lossOf } = additive([1, 2, 5, 2]);
  const { chosen, loss } = await chooseLayers(layers(10, 1, 10, 10), 5, lossOf);
  assert.deepEqual([[...chosen].sort(), loss], [[0, 1, 3], 5]);
});

test('losses of sets are measured, not summed', async () => {
  const together = async (set: ReadonlySet<number>) => (set.size > 1 ? 10 : 1);
  const { chosen, loss } = await chooseLayers(layers(1, 2), 5, together);
  assert.deepEqual([[...chosen], loss], [[1], 1]);
});

test('none where each loses too much, and without candidates: what is left is what wide layers lose', async () => {
  const lossOf = async (set: ReadonlySet<number>) => 0.5 + set.size;
  assert.deepEqual(await chooseLayers(layers(1), 1, lossOf), { alone: [1.5], chosen: new Set(), loss: 0.5 });
  assert.deepEqual(await chooseLayers([], 1, lossOf), { alone: [], chosen: new Set(), loss: 0.5 });
});
