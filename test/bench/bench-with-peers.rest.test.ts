/** `bench` with peers over stand-ins for their libraries, on a GPU that is the reference: from the run to what is printed of it. */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import Value from 'typebox/value';
import { bench } from '../../src/bench/bench.ts';
import { launchPerTable, peersOf } from '../../src/bench/comparison.ts';
import { type BenchResults, resultsSchema } from '../../src/bench/results.ts';
import { patternWorkload } from '../../src/bench/workload.ts';
import { benchText } from '../../src/cli/bench-text.ts';
import type { RowFormat } from '../../src/embedding/row-format.ts';
import { renderReport } from '../../src/report/page.ts';
import { randomTable } from '../support/cases.ts';
import { smallModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';
import { noStandIns, refuseStandIns, standIns } from './stand-ins.ts';

const TABLES = 2;

/** One pattern over two tables. */
async function run(
  goesWrong: string,
  { rowFormat = 'float32' as RowFormat, peers = true } = {},
): Promise<BenchResults> {
  standIns(goesWrong);
  using backend = new ReferenceGpu();
  const random = new Random(1);
  const tables = Array.from({ length: TABLES }, () =>
    randomTable(random, { rows: 20, dim: 8, rowFormat, mode: 'sum' }),
  );
  const architecture = { ...smallModel(random, 'dot-lower'), tables };
  const shape = { architecture, batchSize: 3, bagLengths: '2', batches: 2, seed: 1 };
  return await bench({
    ...{ backend, architecture, peers, bagLengths: '2', seed: 1, indexType: 'int64' as const },
    preset: 'quick',
    command: 'hotrow bench',
    workloads: [patternWorkload('random', shape)],
    embeddingRounds: 1,
    modelRounds: 0,
    sweeps: [],
  });
}

describe('bench with peers', { skip: refuseStandIns }, () => {
  afterEach(noStandIns);

  test('both are in the results, in the terminal and in the report', async () => {
    const results = await run('');
    assert.deepEqual([...Value.Errors(resultsSchema, results)], []);
    const [pytorch, fbgemm] = peersOf(results).map(({ rows }) => rows.get('random'));
    assert.equal(pytorch?.implementation, 'PyTorch 0.0.1+stand-in');
    assert.equal(fbgemm?.implementation, 'FBGEMM 0.0.2');
    assert.deepEqual([pytorch?.tablesPerLaunch, fbgemm?.tablesPerLaunch], [1, TABLES]);
    // 1 ms a table, and 3 ms for all tables: four batches are timed.
    assert.ok(Math.abs((pytorch?.timing.medianMs as number) - 2) < 1e-9);
    assert.ok(Math.abs((fbgemm?.timing.medianMs as number) - 3) < 1e-9);
    assert.ok(Math.abs((launchPerTable(fbgemm as never)?.medianUs as number) - 1500) < 1e-6);
    assert.deepEqual([pytorch?.launch?.samples, fbgemm?.launch?.samples], [8, 4]);
    const text = benchText(results);
    assert.match(text, /^FBGEMM 0\.0\.2 +1500 /m);
    assert.match(text, /speed over FBGEMM 0\.0\.2 in the same run/);
    assert.match(text, /vs PyTorch +vs FBGEMM/);
    assert.equal(text.includes('note: FBGEMM'), false);
    const page = renderReport([results]);
    for (const words of ['FBGEMM 0.0.2', 'over FBGEMM', 'over PyTorch'])
      assert.ok(page.includes(words), words);
  });

  test('the absence of one is said once, with its reason', async () => {
    const results = await run('absent');
    const text = benchText(results);
    assert.equal(text.split('FBGEMM').length, 2, text);
    assert.match(text, /^note: FBGEMM was not measured: python3.*: no module fbgemm_gpu$/m);
    assert.deepEqual(
      peersOf(results).map(({ name }) => name),
      ['PyTorch'],
    );
    assert.equal(renderReport([results]).split('FBGEMM').length, 2);
  });

  test('an error for a format is said, and the bench goes on', async () => {
    const results = await run('no-int8', { rowFormat: 'int8' });
    assert.deepEqual(peersOf(results), []);
    assert.match(benchText(results), /^note: FBGEMM 0\.0\.2 was not measured: INT8 rows need a newer GPU$/m);
    assert.ok(results.embedding.some(({ best }) => best));
  });

  test('nothing is started, and nothing said, with --no-peers', async () => {
    const results = await run('', { peers: false });
    assert.deepEqual(peersOf(results), []);
    assert.equal(/FBGEMM|PyTorch/.test(benchText(results)), false);
  });
});
