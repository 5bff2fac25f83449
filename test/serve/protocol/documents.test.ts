import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  health,
  modelMetadata,
  modelReady,
  repositoryIndex,
  serverMetadata,
} from '../../../src/serve/protocol/documents.ts';
import { version } from '../../../src/version.ts';
import { feature, inputsOf } from '../../support/request-tensors.ts';

const outputs = [{ name: 'probability', width: 1 }];

test('the server', () => {
  assert.deepEqual(serverMetadata(), {
    name: 'hotrow',
    version,
    extensions: ['binary_tensor_data', 'schedule_policy', 'statistics', 'model_repository'],
  });
  assert.deepEqual([health('live', true), health('ready', false)], [{ live: true }, { ready: false }]);
  assert.deepEqual(modelReady({ name: 'm' }, true), { name: 'm', ready: true });
});

test('a model', () => {
  const hash = { ids: { kind: 'hash', hash: 'modulo', seed: 0, modulus: 5 } } as const;
  const model = {
    name: 'm',
    version: '3',
    inputs: inputsOf([feature('a'), feature('b', hash)], ['x', 'y']),
    tableRows: [7, 5],
    outputs,
  };
  assert.deepEqual(modelMetadata(model), {
    name: 'm',
    versions: ['3'],
    platform: 'hotrow',
    inputs: [
      { name: 'dense', datatype: 'FP32', shape: [-1, 2] },
      { name: 'values', datatype: 'INT64', shape: [-1] },
      { name: 'lengths', datatype: 'INT32', shape: [2, -1] },
    ],
    outputs: [{ name: 'probability', datatype: 'FP32', shape: [-1, 1] }],
    parameters: {
      dense_features: 2,
      features: [
        { name: 'a', rows: 7, kind: 'rows' },
        { name: 'b', rows: 5, kind: 'hash' },
      ],
    },
  });
});

test('a model without dense features, with a vocabulary of strings', () => {
  const words = { ids: { kind: 'vocabulary', values: ['Bonn'] } } as const;
  const numbers = { ids: { kind: 'vocabulary', values: [5] } } as const;
  const inputs = inputsOf([feature('city', words), feature('b', numbers)], []);
  const { inputs: given } = modelMetadata({
    name: 'm',
    version: '1',
    inputs,
    tableRows: [1, 1],
    outputs,
  }) as { inputs: object };
  assert.deepEqual(given, [
    { name: 'values.city', datatype: 'BYTES', shape: [-1] },
    { name: 'lengths.city', datatype: 'INT32', shape: [-1] },
    { name: 'values.b', datatype: 'INT64', shape: [-1] },
    { name: 'lengths.b', datatype: 'INT32', shape: [-1] },
  ]);
});

test('the repository', () => {
  const entries = [
    { name: 'm', version: '1', state: 'READY', reason: '' },
    { name: 'm', version: '2', state: 'LOADING', reason: '' },
  ] as const;
  for (const request of [undefined, {}, { ready: false }, null, 'ready', { ready: 'true' }])
    assert.deepEqual(repositoryIndex(entries, request), entries);
  assert.deepEqual(repositoryIndex(entries, { ready: true }), [entries[0]]);
});
