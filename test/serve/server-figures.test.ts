/** Whose names a server's metrics have, and what its engines tell beside them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ServerFigures } from '../../src/serve/figures.ts';

const textOf = (figures: ServerFigures) => figures.document({ kind: 'metrics' });

test('Triton’s names come beside Hotrow’s where they are asked for', () => {
  const [own, both] = [new ServerFigures(), new ServerFigures('triton')];
  for (const figures of [own, both]) figures.serves('m', '3');
  assert.match(textOf(own), /^hotrow_model_info\{model="m",version="3"\} 1$/m);
  assert.doesNotMatch(textOf(own), /nv_/);
  assert.match(textOf(both), /^hotrow_model_info\{model="m",version="3"\} 1$/m);
  assert.match(textOf(both), /^nv_inference_count\{model="m",version="3"\} 0$/m);
});

test('the memory of a device is there while a model is on it', () => {
  const figures = new ServerFigures();
  const memory = { device: 'cuda:1', freeBytes: 10, totalBytes: 30 };
  figures.serves('m', '1');
  figures.engine('m', '0', { fits: [], memory });
  figures.engine('other', '0', { fits: [] });
  assert.match(textOf(figures), /^hotrow_device_memory_free_bytes\{device="cuda:1"\} 10$/m);
  assert.match(textOf(figures), /^hotrow_device_memory_total_bytes\{device="cuda:1"\} 30$/m);
  figures.withdraws('m');
  assert.doesNotMatch(textOf(figures), /device_memory/);
});
