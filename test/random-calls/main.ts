/**
 * Random calls in a process of their own, which may crash: `npx tsx test/random-calls/main.ts COUNT SEED cpu|cuda [JOURNAL [FIRST]]`. JOURNAL is
 * a file that always names the call under way; FIRST the number of the first, to make one again. `cuda`: over the fake driver.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { GuardedBackend } from '../../src/backend/guarded/backend.ts';
import { runCalls } from './run-calls.ts';

const [count = '1000', seed = '1', device = 'cpu', journal, first = '0'] = process.argv.slice(2);
const folder = mkdtempSync(join(tmpdir(), 'hotrow-random-calls-'));
const fd = journal === undefined ? undefined : openSync(resolve(journal), 'w');
// Names of files that nobody meant end here. No plan of the user's is taken.
process.chdir(folder);
process.env.XDG_DATA_HOME = folder;
console.log(`${count} calls on ${device}, seed ${seed}`);
const inner =
  device === 'cpu'
    ? new CpuBackend({ threads: 2 })
    : (await import('../fake-driver/open-backend.ts')).openFakeBackend();
const rejected: string[] = [];
process.on('unhandledRejection', (reason) => {
  rejected.push(`a rejection that nobody saw: ${reason instanceof Error ? reason.stack : typeof reason}`);
});
try {
  using backend = new GuardedBackend(inner);
  const { right, outcomes, failures } = await runCalls(backend, folder, {
    count: Number(count),
    seed: Number(seed),
    first: Number(first),
    onCall: (number, name) => {
      if (fd !== undefined) writeSync(fd, `${number} ${name}`.padEnd(60), 0);
    },
  });
  const all = [...failures, ...rejected];
  const sorted = [...outcomes].sort(([, a], [, b]) => b - a);
  console.log(`right: ${right}; wrong: ${sorted.map(([code, n]) => `${code} ${n}`).join(', ')}`);
  for (const failure of all.slice(0, 20)) console.log(failure);
  console.log(`${all.length} failures`);
  process.exitCode = all.length === 0 ? 0 : 1;
} finally {
  if (fd !== undefined) closeSync(fd);
  process.chdir('/');
  rmSync(folder, { recursive: true, force: true });
}
