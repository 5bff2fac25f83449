/** Calls of the public API with wrong arguments end in a value or a typed error, on a CPU and on an emulated GPU. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { refuseEmulation } from '../emulation/emulator.ts';
import { bundledProgram } from '../support/bundled-program.ts';
import { SEED } from '../support/seed.ts';

const MAIN = await bundledProgram(new URL('main.ts', import.meta.url));

for (const [device, count, skip] of [
  ['cpu', 1500, undefined],
  ['cuda', 400, refuseEmulation()],
] as const) {
  test(`${count} random calls on ${device}, HOTROW_SEED=${SEED}`, { skip }, () => {
    const args = [MAIN, `${count}`, `${SEED}`, device];
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      // For a process that never ends; no machine is so slow.
      timeout: 900_000,
    });
    assert.equal(status, 0, `${signal ?? ''}\n${stdout}\n${stderr}`);
    // Not vacuous: right calls were made, and wrong ones refused for more than one reason.
    const right = Number(/right: (\d+)/.exec(stdout)?.[1]);
    assert.ok(right > count / 20, stdout);
    for (const code of ['OPTION_INVALID', 'TENSOR_DTYPE', 'TENSOR_SHAPE'])
      assert.match(stdout, new RegExp(code));
  });
}
