/** What programs of a GPU take goes when they are disposed, or run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix } from '../../../src/backend/backend.ts';
import { DEFAULT_STREAM_SETS } from '../../../src/backend/stream-options.ts';
import { refuseEmulation } from '../../emulation/emulator.ts';
import { fake, openFakeBackend } from '../../fake-driver/open-backend.ts';

test('pinned memory of programs is lent again', { skip: refuseEmulation() }, async () => {
  using backend = openFakeBackend();
  const length = 1 << 16;
  const buffer = backend.allocate(length);
  const whole = matrix(buffer, 1, length);
  const [source, target] = [new Float32Array(length).fill(3), new Float32Array(length)];
  const once = async () => {
    const program = backend.prepare([
      { op: 'upload', source: 'in', output: whole },
      { op: 'download', input: whole, target: 'out' },
    ]);
    await program.run({ in: source, out: target });
    program[Symbol.dispose]();
    await backend.run([
      { op: 'upload', source, output: whole },
      { op: 'download', input: whole, target },
    ]);
  };
  // Each set of streams keeps events of its own.
  for (let set = 0; set < DEFAULT_STREAM_SETS; set++) await once();
  assert.deepEqual(target, source);
  const before = [fake.live(), fake.liveBytes()];
  for (let i = 0; i < 5; i++) await once();
  assert.deepEqual([fake.live(), fake.liveBytes()], before);
  buffer[Symbol.dispose]();
});

test('a GPU tells its memory, of which what is allocated is missing', { skip: refuseEmulation() }, () => {
  using backend = openFakeBackend();
  const { freeBytes, totalBytes } = backend.memoryUse() ?? assert.fail('a GPU has memory of its own');
  using _buffer = backend.allocate(1 << 20);
  const after = backend.memoryUse();
  assert.equal(after?.totalBytes, totalBytes);
  assert.equal(freeBytes - (after?.freeBytes ?? 0), 4 << 20);
});
