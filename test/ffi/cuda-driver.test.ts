/** The binding of the driver: loading, versions, statuses as errors. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type CudaError, DeviceError } from '../../src/errors.ts';
import { CudaDriver, versionText } from '../../src/ffi/cuda-driver.ts';
import type { DevicePtr } from '../../src/ffi/cuda-symbols.ts';
import { buildFakeDriver, emptyPlaces, fakeCubin } from '../fake-driver/fake-driver.ts';

const fake = buildFakeDriver();

/** The error that `call` throws. */
function errorOf(call: () => unknown): CudaError {
  try {
    call();
  } catch (error) {
    return error as CudaError;
  }
  assert.fail('nothing was thrown');
}

test('opens, and describes devices', () => {
  const driver = new CudaDriver({ path: fake.path });
  assert.equal(driver.version, 13000);
  assert.equal(versionText(driver.version), '13.0');
  assert.equal(driver.deviceCount(), 2);
  const device = driver.device(1);
  assert.equal(driver.deviceName(device), 'Fake GPU 1');
  assert.equal(driver.deviceUuid(device), '06162636-4656-6676-8696-a6b6c6d6e6f6');
  assert.equal(driver.deviceAttribute(device, 'multiprocessors'), 132);
  assert.equal(driver.totalMemoryBytes(device), 2 ** 30);
});

test('no driver', () => {
  const error = errorOf(() => new CudaDriver({ places: emptyPlaces() }));
  assert.ok(error instanceof DeviceError);
  assert.equal(error.code, 'CUDA_LIBRARY_MISSING');
  assert.match(error.hint ?? '', /install an NVIDIA driver/);
});

test('an old driver: its version, and missing functions by name', () => {
  const old = buildFakeDriver(['FAKE_VERSION=11040']);
  assert.match(errorOf(() => new CudaDriver({ path: old.path })).message, /supports CUDA 11\.4.*needs 12\.0/);
  const lacking = buildFakeDriver(['FAKE_WITHOUT_GRAPHS']);
  const error = errorOf(() => new CudaDriver({ path: lacking.path }));
  assert.equal(error.code, 'NATIVE_LIBRARY_INCOMPATIBLE');
  assert.match(error.message, /lacks cuStreamBeginCapture_v2, .*cuGraphLaunch/);
});

test('no device', () => {
  const error = errorOf(() => new CudaDriver({ path: buildFakeDriver(['FAKE_DEVICES=0']).path }));
  assert.equal(error.code, 'DEVICE_UNAVAILABLE');
  assert.equal(error.call, 'cuInit');
  assert.equal(error.status, 'CUDA_ERROR_NO_DEVICE');
  assert.match(error.hint ?? '', /CUDA_VISIBLE_DEVICES/);
});

test('a failing call: its name, its status, what to do', () => {
  const driver = new CudaDriver({ path: fake.path });
  const noDevice = errorOf(() => driver.device(7));
  assert.equal(
    noDevice.message,
    'cuDeviceGet failed: CUDA_ERROR_INVALID_DEVICE (101), as the fake driver has it',
  );
  assert.equal(noDevice.code, 'DEVICE_UNAVAILABLE');
  assert.equal(noDevice.contextLost, false);
  const noContext = errorOf(() => driver.allocate(8));
  assert.equal(noContext.status, 'CUDA_ERROR_INVALID_CONTEXT');
  fake.fail('cuDeviceGetCount', 1, 987);
  assert.match(errorOf(() => driver.deviceCount()).message, /\(987\)/);
  assert.equal(driver.deviceCount(), 2, 'one failure is one');
});

test("a bad module: the driver's log is in the message", () => {
  const driver = new CudaDriver({ path: fake.path });
  const device = driver.device(0);
  driver.makeCurrent(driver.retainPrimaryContext(device));
  const error = errorOf(() => driver.loadModule(new TextEncoder().encode('ELF\0')));
  assert.match(error.message, /CUDA_ERROR_INVALID_IMAGE.*not a fake cubin/s);
  const module = driver.loadModule(fakeCubin('add'));
  const missing = errorOf(() => driver.moduleFunction(module, 'subtract'));
  assert.match(missing.message, /CUDA_ERROR_NOT_FOUND.*subtract/s);
  driver.unloadModule(module);
  driver.releasePrimaryContext(device);
  assert.deepEqual(fake.live(), {});
});

test('a current context is set once, not at every call', () => {
  const driver = new CudaDriver({ path: fake.path });
  const device = driver.device(0);
  const context = driver.retainPrimaryContext(device);
  driver.makeCurrent(context);
  const before = fake.calls();
  for (let i = 0; i < 10; i++) driver.makeCurrent(context);
  assert.equal(fake.calls(), before);
  assert.equal(driver.currentContext(), context);
  driver.releasePrimaryContext(device);
});

test('a matrix in tiles: where it lies, and what the driver refuses', () => {
  const driver = new CudaDriver({ path: fake.path });
  const context = driver.retainPrimaryContext(driver.device(0));
  driver.makeCurrent(context);
  const matrix = {
    format: 'float16',
    address: 0x7000n as DevicePtr,
    ...{ rows: 100, columns: 24, rowBytes: 64, tileRows: 64, tileColumns: 64 },
  } as const;
  assert.deepEqual([...driver.describeTiles(matrix)].slice(0, 7), [0x7000n, 24n, 100n, 64n, 64n, 64n, 2n]);
  assert.equal(driver.describeTiles({ ...matrix, format: 'bfloat16' }).length, 16);
  const bytes = driver.describeTiles({ ...matrix, format: 'float8_e4m3', tileColumns: 128 });
  assert.deepEqual([...bytes].slice(4, 7), [128n, 64n, 1n]);
  for (const bad of [{ address: 0x7008n as DevicePtr }, { rowBytes: 40 }, { tileColumns: 128 }, { rows: 0 }])
    assert.equal(errorOf(() => driver.describeTiles({ ...matrix, ...bad })).call, 'cuTensorMapEncodeTiled');
  driver.releasePrimaryContext(driver.device(0));
});
