/** The layers of src/ import downwards only, no files import each other in a circle, and koffi stays in src/ffi. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const SRC = fileURLToPath(new URL('../src', import.meta.url));

/**
 * Lowest first. A file belongs to the longest entry that its path starts with, and may import its own layer and those
 * below. Two entries of one layer may not import each other.
 */
const LAYERS: readonly (readonly string[])[] = [
  [
    'text.ts',
    'at.ts',
    'deferred.ts',
    'garbage-collector.ts',
    'each-at-once.ts',
    'package-file.ts',
    'user-folders.ts',
  ],
  ['errors.ts', 'version.ts', 'numbers.ts', 'progress.ts'],
  // A client of servers is for browsers too.
  ['unfinished.ts', 'opened-file.ts', 'serve/batching', 'client'],
  [
    'tensor.ts',
    'float8.ts',
    'device.ts',
    'input-file.ts',
    'output-file.ts',
    'temporary-folder.ts',
    'child-program.ts',
  ],
  ['stored-tensor.ts', 'checks'],
  ['ffi', 'formats'],
  ['cuda', 'jit'],
  // The operator, independent of devices.
  ['embedding'],
  // How it runs: techniques, plans, occupancy. Pure, but for saved plans.
  ['plan'],
  // The contract, and what devices share.
  ['backend'],
  ['backend/cpu', 'backend/cuda/kernels', 'backend/cuda/memory'],
  ['backend/cuda/rows', 'backend/cuda/dense'],
  ['backend/cuda/embedding'],
  ['backend/cuda/program'],
  ['backend/cuda', 'backend/guarded'],
  ['backend/open-backend.ts'],
  // What runs on a backend.
  ['dense'],
  ['model'],
  ['workload'],
  ['tuner'],
  ['evaluate'],
  ['calibrate'],
  ['bench'],
  ['characterize'],
  // Clients of a server.
  ['load'],
  ['report'],
  // A server's requests as they lie in memory.
  ['serve/records'],
  // What a server says and hears: no sockets.
  ['serve/protocol'],
  ['serve/metrics', 'serve/recording', 'serve/patches'],
  // The server's page: what it shows, and its script for browsers.
  ['serve/engine', 'serve/page'],
  // What becomes of a request, whatever it came by.
  ['serve/requests'],
  ['serve'],
  ['cli', 'index.ts'],
];

function place(file: string): { layer: number; room: string } {
  const found = LAYERS.flatMap((rooms, layer) => rooms.map((room) => ({ layer, room })))
    .filter(({ room }) => file === room || file.startsWith(`${room}/`))
    .sort((a, b) => b.room.length - a.room.length)[0];
  assert.ok(found, `${file} has no layer: give it one in this test and in docs/architecture.md`);
  return found;
}

function importsOf(file: string): string[] {
  const source = readFileSync(join(SRC, file), 'utf8');
  return [...source.matchAll(/(?:from|import\()\s*'([^']+)'/g)].map((match) => match[1] as string);
}

/** The files of src/ that a file imports, types too. */
function importedBy(file: string): string[] {
  return importsOf(file)
    .filter((target) => target.startsWith('.'))
    .map((target) => normalize(join(dirname(file), target)));
}

const files = (readdirSync(SRC, { recursive: true }) as string[]).filter((file) => file.endsWith('.ts'));

test('src/ has files to check', () => assert.ok(files.length > 30));

for (const file of files) {
  test(`imports of ${file}`, () => {
    const own = place(file);
    for (const target of importsOf(file)) {
      if (target === 'koffi') assert.equal(own.room, 'ffi', 'only src/ffi imports koffi');
    }
    for (const imported of importedBy(file)) {
      const other = place(imported);
      assert.ok(other.layer <= own.layer, `${file} imports ${imported}, which lies above it`);
      if (other.layer < own.layer || other.room === own.room) continue;
      assert.fail(`${file} imports its neighbour ${imported}`);
    }
  });
}

test('the client needs nothing of Node', () => {
  const reached = new Set(files.filter((file) => file.startsWith('client/')));
  assert.ok(reached.size > 0);
  for (const file of reached) {
    assert.deepEqual(
      importsOf(file).filter((target) => !target.startsWith('.')),
      [],
      file,
    );
    for (const other of importedBy(file)) reached.add(other);
  }
  assert.ok(reached.has('errors.ts'));
});

test('no circle among files, types counted', () => {
  const done = new Set<string>();
  const walk = (file: string, path: readonly string[]) => {
    assert.ok(!path.includes(file), `a circle: ${[...path.slice(path.indexOf(file)), file].join(' → ')}`);
    if (done.has(file)) return;
    for (const other of importedBy(file)) walk(other, [...path, file]);
    done.add(file);
  };
  for (const file of files) walk(file, []);
  assert.ok(done.size >= files.length && files.some((file) => importedBy(file).length > 3));
});
