/** Worker threads that end with models on the CPU open: all that they held is given back. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { nativeCounts } from '../../../src/ffi/owned-handles.ts';
import type { ModelWork } from '../../support/model-worker.ts';
import { startWorker, workerFile } from '../../support/start-worker.ts';

const ROUNDS = 3;

describe('workers with models on the CPU', () => {
  for (const then of [undefined, 'exit', 'measure'] as const) {
    test(
      then === 'exit' ? 'a worker that exits' : `a worker that ${then ?? 'predict'}s, terminated`,
      async () => {
        const before = nativeCounts();
        for (let round = 0; round < ROUNDS; round++) {
          const { worker, ready, ended } = startWorker({ device: 'cpu', seed: 1, ...(then && { then }) });
          await ready;
          if (then !== 'exit') await worker.terminate();
          await ended;
          assert.deepEqual(nativeCounts(), before, `round ${round}`);
        }
      },
    );
  }
});

test('a process that exits while a worker predicts ends at once, and well', () => {
  const work: ModelWork = { device: 'cpu', seed: 1 };
  const program = `
    const worker = new (require('node:worker_threads').Worker)(process.argv[1], { workerData: ${JSON.stringify(work)} });
    worker.on('message', () => process.exit(0));
  `;
  const { status, signal, stderr } = spawnSync(process.execPath, ['-e', program, workerFile], {
    encoding: 'utf8',
    timeout: 30_000,
  });
  assert.deepEqual({ status, signal, stderr }, { status: 0, signal: null, stderr: '' });
});
