/** CUDA's libraries are found in the usual places, in order, and a missing one says where it was looked for. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, test } from 'node:test';
import type { DeviceError } from '../../src/errors.ts';
import { openLibrary, systemPlaces } from '../../src/ffi/find-libraries.ts';
import { buildFake, emptyPlaces } from '../fake-driver/fake-driver.ts';

const root = realpathSync(mkdtempSync(join(tmpdir(), 'hotrow-places-')));
after(() => rmSync(root, { recursive: true, force: true }));
const library = buildFake('fake_nvrtc');

function place(...path: readonly string[]): string {
  const file = join(root, ...path);
  mkdirSync(dirname(file), { recursive: true });
  symlinkSync(library, file);
  return file;
}

const target = process.arch === 'arm64' ? 'sbsa-linux' : 'x86_64-linux';

test('CUDA_HOME comes before CUDA_PATH, and both before the default prefix', () => {
  place('home', 'lib64', 'libnvrtc.so.12');
  place('path', 'lib64', 'libnvrtc.so.13');
  place('prefix', 'cuda', 'lib64', 'libnvrtc.so.13');
  const search = (environment: Record<string, string>) =>
    openLibrary('nvrtc', { places: emptyPlaces({ environment, toolkitPrefix: join(root, 'prefix') }) })
      .location;
  const both = { CUDA_HOME: join(root, 'home'), CUDA_PATH: join(root, 'path') };
  assert.equal(search(both).foundIn, 'CUDA_HOME');
  assert.equal(search({ CUDA_PATH: both.CUDA_PATH }).foundIn, 'CUDA_PATH');
  assert.equal(search({}).foundIn, join(root, 'prefix', 'cuda'));
  assert.equal(search({}).path, realpathSync(library), 'without symbolic links');
});

test('of versioned toolkits the newest is taken, also from targets/', () => {
  const toolkitPrefix = join(root, 'versions');
  place('versions', 'cuda-12.9', 'lib64', 'libnvrtc.so.12');
  place('versions', 'cuda-12.10', 'targets', target, 'lib', 'libnvrtc.so.12');
  const { location } = openLibrary('nvrtc', { places: emptyPlaces({ toolkitPrefix }) });
  assert.equal(location.foundIn, join(toolkitPrefix, 'cuda-12.10'));
});

test('Python environments: both layouts of the packages', () => {
  place('env12', 'lib', 'python3.11', 'site-packages', 'nvidia', 'cuda_nvrtc', 'lib', 'libnvrtc.so.12');
  place('env13', 'lib', 'python3.12', 'site-packages', 'nvidia', 'cu13', 'lib', 'libcublasLt.so.13');
  place('dist', 'nvidia', 'cu13', 'lib', 'libnvrtc.so.13');
  const environment = { VIRTUAL_ENV: join(root, 'env12'), CONDA_PREFIX: join(root, 'env13') };
  const pythonSitePackages = () => [join(root, 'dist')];
  assert.equal(
    openLibrary('nvrtc', { places: emptyPlaces({ environment }) }).location.foundIn,
    'VIRTUAL_ENV',
  );
  assert.equal(
    openLibrary('cublasLt', { places: emptyPlaces({ environment }) }).location.foundIn,
    'CONDA_PREFIX',
  );
  assert.match(
    openLibrary('nvrtc', { places: emptyPlaces({ pythonSitePackages }) }).location.foundIn,
    /python3/,
  );
});

test('a library newer than the driver is passed over', () => {
  const toolkitPrefix = join(root, 'mixed');
  place('mixed', 'cuda-13.0', 'lib64', 'libnvrtc.so.13');
  place('mixed', 'cuda-12.4', 'lib64', 'libnvrtc.so.12');
  const places = emptyPlaces({ toolkitPrefix });
  assert.match(openLibrary('nvrtc', { places }).location.foundIn, /13\.0/);
  assert.match(openLibrary('nvrtc', { places, majorVersion: 12 }).location.foundIn, /12\.4/);
});

test('a file that does not load is passed over and told', () => {
  mkdirSync(join(root, 'broken', 'lib64'), { recursive: true });
  writeFileSync(join(root, 'broken', 'lib64', 'libnvrtc.so.13'), 'no library');
  const environment = { CUDA_HOME: join(root, 'broken') };
  assert.throws(
    () => openLibrary('nvrtc', { places: emptyPlaces({ environment }) }),
    (error: DeviceError) =>
      error.code === 'CUDA_LIBRARY_MISSING' &&
      /broken\/lib64\/libnvrtc\.so\.13 \(CUDA_HOME\)/.test(error.message) &&
      /nvidia-cuda-nvrtc/.test(error.hint ?? ''),
  );
});

test('a stub of the driver in a toolkit does not count as a driver', () => {
  place('stub', 'lib64', 'stubs', 'libcuda.so.1');
  const environment = { CUDA_HOME: join(root, 'stub') };
  assert.throws(() => openLibrary('driver', { places: emptyPlaces({ environment }) }), {
    code: 'CUDA_LIBRARY_MISSING',
  });
  place('driver', 'libcuda.so.1');
  const driverFolders = [join(root, 'driver')];
  assert.equal(openLibrary('driver', { places: emptyPlaces({ driverFolders }) }).location.name, 'driver');
});

test('the real places can be searched', () => {
  const attempt = () => openLibrary('nvrtc', { places: { ...systemPlaces, environment: {} } });
  try {
    assert.ok(attempt().location.path.includes('nvrtc'));
  } catch (error) {
    assert.equal((error as DeviceError).code, 'CUDA_LIBRARY_MISSING');
    assert.match((error as DeviceError).message, /the linker's path/);
  }
});
