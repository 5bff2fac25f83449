/** The fused CUDA kernel on the host, over tables with a bag per user. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { integers, MODES, randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';
import { expandUsers, usersProblem } from '../support/users.ts';
import { refuseEmulation } from './emulator.ts';
import { assertExact, pool } from './fused-pool.ts';

const skip = refuseEmulation();

test('tables with a bag per user: as many users as samples, fewer, and more', { skip }, async () => {
  const random = new Random(21);
  const tables = [16, 300, 33, 1000].map((dim, t) =>
    randomTable(random, { rows: 30, dim, mode: MODES[t % 3] ?? 'sum' }),
  );
  for (const starts of [
    [0, 1, 2, 3],
    [0, 0, 0, 2, 2, 2],
    [0, 40],
  ]) {
    const perUser = (t: number) => t !== 1;
    const problem = usersProblem(random, tables, { starts, perUser, longest: 40 });
    const expanded = { tables, batch: expandUsers(problem.batch) };
    for (const bagsPerGroup of [1, 4]) {
      const { pooled, findings } = await pool(problem, { bagsPerGroup });
      assert.equal(findings, 0n);
      assertExact(pooled, expanded, `users at ${starts}, ${bagsPerGroup} bags a group`);
    }
    const { batch } = problem;
    const wrong = batch.bags.map((own, t) => {
      if (t !== 2) return own;
      return {
        ...own,
        indices: integers([1, 30], 'int32'),
        offsets: integers(
          starts.map(() => 0),
          'int64',
        ),
      };
    });
    const { findings } = await pool({ tables, batch: { ...batch, bags: wrong } });
    assert.equal(findings, 1n, 'a bad index behind the last bag of a user');
  }
});
