/** Which GPUs there are, or why there are none: it never throws. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { cudaDevices } from '../../src/cuda/discover.ts';
import { buildFakeDriver, emptyPlaces } from '../fake-driver/fake-driver.ts';

test('devices, libraries, and what is missing', () => {
  const found = cudaDevices({ driverPath: buildFakeDriver().path, places: emptyPlaces() });
  assert.ok('devices' in found);
  assert.deepEqual(
    found.devices.map(({ id, name, architecture, memoryBytes }) => [id, name, architecture, memoryBytes]),
    [
      ['cuda:0', 'Fake GPU 0', 'sm_90', 2 ** 30],
      ['cuda:1', 'Fake GPU 1', 'sm_90', 2 ** 30],
    ],
  );
  assert.equal(found.devices[0]?.versions.cuda, '13.0');
  assert.deepEqual(
    found.libraries.map(({ name }) => name),
    ['driver'],
  );
  assert.deepEqual(
    found.missing.map(({ reason }) => reason.code),
    ['CUDA_LIBRARY_MISSING', 'CUDA_LIBRARY_MISSING'],
  );
});

test('why there is no device', () => {
  const reasons = [
    [undefined, /the NVIDIA driver was not found/],
    [['FAKE_DEVICES=0'], /cuInit failed: CUDA_ERROR_NO_DEVICE/],
    [['FAKE_VERSION=11080'], /supports CUDA 11\.8/],
    [['FAKE_WITHOUT_GRAPHS'], /lacks cuStreamBeginCapture/],
  ] as const;
  for (const [defines, reason] of reasons) {
    const path = defines === undefined ? {} : { driverPath: buildFakeDriver(defines).path };
    const found = cudaDevices({ ...path, places: emptyPlaces() });
    assert.ok('reason' in found);
    assert.match(found.reason, reason);
    assert.ok(found.hint);
  }
});

test('on this machine', () => {
  const found = cudaDevices();
  if ('reason' in found) assert.notEqual(found.reason, '');
  else assert.match(found.devices[0]?.architecture ?? '', /^sm_\d+$/);
});
