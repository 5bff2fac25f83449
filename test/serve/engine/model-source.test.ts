import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type ModelSource, placeModel } from '../../../src/serve/engine/model-source.ts';
import { leavesNothing, refuseCounting } from '../../support/resources.ts';

const source: ModelSource = { kind: 'preset', preset: 'quick', shape: { tables: 3, rows: 50 } };
const cpu = { device: 'cpu', threads: 1 };

test('a preset of its shape is placed; closing the model closes the device', {
  skip: refuseCounting,
}, async () => {
  const place = async () => {
    const { model, backend, bagLengths } = await placeModel(source, cpu, () => {});
    await using closed = model;
    assert.deepEqual(
      closed.architecture.tables.map(({ rows }) => rows),
      [50, 50, 50],
    );
    assert.equal(backend.device, closed.device);
    assert.equal(closed.device.kind, 'cpu');
    assert.ok(bagLengths !== undefined && bagLengths.length > 0);
  };
  await leavesNothing(place);
});

test('what cannot be placed leaves no device open', { skip: refuseCounting }, async () => {
  await leavesNothing(() =>
    assert.rejects(placeModel(source, { ...cpu, precision: 'float16' as never }, () => {})),
  );
  await assert.rejects(
    placeModel({ kind: 'file', path: '/no/such/model.pt', overrides: {} }, cpu, () => {}),
    { code: 'FILE_NOT_FOUND' },
  );
});
