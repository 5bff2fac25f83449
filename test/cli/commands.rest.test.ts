/** The commands as a user types them: output, exit codes, and what bad input gets. */
import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import Value from 'typebox/value';
import { resultsSchema } from '../../src/bench/results.ts';
import { readSafetensors, writeSafetensors } from '../../src/formats/safetensors.ts';
import { readRequest, writeRequest } from '../../src/model/request/safetensors-request.ts';
import { planLabel, planSchema } from '../../src/plan/plan.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import { hotrow } from '../support/cli.ts';
import { relativeError } from '../support/compare.ts';
import { goldenPath } from '../support/golden.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-cli-'));
});
after(() => rm(folder, { recursive: true }));

const MODEL = goldenPath('dlrm_dcnv2.model.safetensors') as string;
const REQUEST = goldenPath('dlrm_dcnv2.request.safetensors') as string;
const EXPECTED = goldenPath('dlrm_dcnv2.expected.safetensors') as string;

async function probabilities(file: string): Promise<Float32Array> {
  const { tensors } = await readSafetensors(file);
  const tensor = tensors.get('probability');
  assert.ok(tensor);
  return (await readTensor(tensor)).data as Float32Array;
}

/** Exit code 1, one error with this code and text, nothing on stdout. */
async function fails(args: string[], code: string, pattern: RegExp): Promise<void> {
  const result = await hotrow(...args);
  assert.equal(result.code, 1, result.stderr);
  assert.equal(result.stdout, '', 'no partial output');
  assert.match(result.stderr, new RegExp(`^(?:note: model: .*\n)*error\\[${code}\\]: `));
  assert.match(result.stderr, pattern);
  assert.match(result.stderr, /\nhint: /);
}

/** The golden request with one part changed, as a file. */
async function brokenRequest(
  change: (request: Awaited<ReturnType<typeof readRequest>>) => void,
): Promise<string> {
  const request = await readRequest(REQUEST);
  change(request);
  const file = join(folder, 'broken.safetensors');
  await writeRequest(file, request);
  return file;
}

describe('hotrow tune', () => {
  test('saves a plan that beats the heuristic one; predict then runs it, and says so', async () => {
    const { code, stdout, stderr } = await hotrow(
      ...['tune', MODEL, '--batch', '64', '--budget', '300ms', '--format', 'json'],
    );
    assert.equal(code, 0, stderr);
    const { plan, file, measured, isBetter, found, heuristic } = JSON.parse(stdout);
    assert.equal(Value.Check(planSchema, plan), true);
    assert.equal(plan.tunedOn.workload, 'med_hot');
    assert.ok(measured.length >= 2);
    assert.equal(planLabel(plan), isBetter ? found : heuristic);
    // Which is the faster is this machine's business.
    assert.equal(file !== null, isBetter);
    if (file !== null) assert.deepEqual(JSON.parse(await readFile(file, 'utf8')), plan);
    const predicted = await hotrow('predict', MODEL, REQUEST);
    assert.match(predicted.stdout, isBetter ? /^plan .*\(saved, tuned on med_hot\)$/m : /^plan .*heuristic/m);
    const plain = await hotrow('predict', MODEL, REQUEST, '--plan', 'plain');
    assert.match(plain.stdout, /^plan {4}standard \(as asked for\)$/m);
    if (file !== null) await rm(file);
    const without = await hotrow('predict', MODEL, REQUEST);
    assert.match(without.stdout, /^plan .*heuristic/m);
  });

  test('tunes a model for a request: its own batch, its own bags', async () => {
    const out = join(folder, 'request-plan.json');
    const { code, stdout, stderr } = await hotrow(
      ...['tune', MODEL, '--trace', REQUEST, '--budget', '100ms', '--out', out],
    );
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^lookups dlrm_dcnv2\.request, .* in a batch of \d+$/m);
    assert.match(stdout, /samples are fewer than 4 batches/);
    const { tunedOn } = JSON.parse(await readFile(out, 'utf8'));
    assert.equal(tunedOn.workload, 'dlrm_dcnv2.request');
  });

  test('tunes and benches a model of small tables for one stream', async () => {
    const trace = join(folder, 'stream.txt');
    await writeFile(trace, Array.from({ length: 3000 }, (_, i) => 20 + i * 7).join('\n'));
    const out = join(folder, 'stream-plan.json');
    const tuned = await hotrow(
      ...[
        'tune',
        MODEL,
        '--trace',
        trace,
        '--batch',
        '16',
        '--bag-lengths',
        '3',
        '--budget',
        '100ms',
        '--out',
        out,
      ],
    );
    assert.equal(tuned.code, 0, tuned.stderr);
    assert.match(tuned.stdout, /note: .*stream\.txt was recorded on a larger table than .*12 rows/);
    const benched = await hotrow(
      ...['bench', MODEL, '--trace', REQUEST, trace, '--rounds', '1', '--no-peers', '--format', 'json'],
      ...['--batch', '16', '--bag-lengths', '3'],
    );
    assert.equal(benched.code, 0, benched.stderr);
    const { embedding, model, notes, workload } = JSON.parse(benched.stdout);
    const patterns = (rows: readonly { readonly pattern: string }[]) => [
      ...new Set(rows.map(({ pattern }) => pattern)),
    ];
    assert.deepEqual(patterns(embedding), ['dlrm_dcnv2.request', 'stream']);
    assert.deepEqual(patterns(model), ['dlrm_dcnv2.request', 'stream']);
    assert.equal(workload.bagLengths, '3, or recorded lengths');
    assert.match(notes.join('\n'), /recorded on a larger table/);
    assert.match(notes.join('\n'), /--bag-lengths is left aside/);
  });

  test('several workloads are one too many', async () => {
    const { code, stderr } = await hotrow('tune', MODEL, '--trace', REQUEST, REQUEST);
    assert.equal(code, 2);
    assert.match(stderr, /^error\[USAGE\]: .*names 2/);
  });

  test('--out puts the plan where --plan can read it', async () => {
    const out = join(folder, 'plan.json');
    const tuned = await hotrow('tune', MODEL, '--batch', '16', '--budget', '100ms', '--out', out);
    assert.equal(tuned.code, 0, tuned.stderr);
    assert.match(tuned.stdout, /^best .*×/m);
    const predicted = await hotrow('predict', MODEL, REQUEST, '--plan', out);
    assert.equal(predicted.code, 0, predicted.stderr);
  });

  test('tunes a preset of other tables for a trace', async () => {
    const trace = join(folder, 'tune.txt');
    await writeFile(trace, Array.from({ length: 50 }, (_, i) => i * 7).join('\n'));
    const out = join(folder, 'preset-plan.json');
    const { code, stderr } = await hotrow(
      ...['tune', '--tables', '1', '--rows', '400', '--dim', '8', '--row-format', 'float16'],
      ...['--batch', '16', '--bag-lengths', '3', '--index-type', 'int32', '--trace', trace],
      ...['--budget', '100ms', '--out', out],
    );
    assert.equal(code, 0, stderr);
    const { tunedOn } = JSON.parse(await readFile(out, 'utf8'));
    assert.deepEqual([tunedOn.workload, tunedOn.batchSize], ['tune', 16]);
  });

  test('bad options are usage errors', async () => {
    for (const args of [
      ['--budget', '0s'],
      ['--budget', 'long'],
      ['--pattern', 'warm'],
      ['--device', 'tpu'],
      ['--tables', '2'],
    ]) {
      const { code, stdout } = await hotrow('tune', MODEL, ...args);
      assert.equal(code, 2, args.join(' '));
      assert.equal(stdout, '');
    }
    await fails(['tune', MODEL, '--trace', '/nonexistent'], 'FILE_NOT_FOUND', /nonexistent/);
    await fails(['tune', MODEL, '--budget', '100ms', '--out', join(MODEL, 'x')], 'FILE_UNWRITABLE', /x/);
  });
});

describe('hotrow devices', () => {
  test('says what CUDA libraries there are, or why there is no CUDA', async () => {
    const { stdout } = await hotrow('devices', '--format', 'json');
    const { devices, cuda } = JSON.parse(stdout);
    const gpus = devices.filter(({ kind }: { kind: string }) => kind === 'cuda').length;
    assert.equal(gpus > 0, cuda.reason === undefined);
    const text = await hotrow('devices');
    assert.match(text.stdout, gpus > 0 ? /^library /m : /^no CUDA: /m);
  });

  test('a GPU that is not there is refused with what to do', async () => {
    const { code, stdout, stderr } = await hotrow('predict', MODEL, REQUEST, '--device', 'cuda:63');
    assert.equal(code, 1);
    assert.equal(stdout, '');
    assert.match(stderr, /^error\[(CUDA_LIBRARY_MISSING|DEVICE_UNAVAILABLE)\]: /);
    assert.match(stderr, /\nhint: /);
  });
});

describe('hotrow predict', () => {
  test('json has the probabilities of the golden file', async () => {
    const { code, stdout } = await hotrow('predict', MODEL, REQUEST, '--format', 'json');
    assert.equal(code, 0);
    const answer = JSON.parse(stdout);
    assert.equal(answer.model, MODEL);
    assert.equal(answer.device, 'cpu');
    assert.equal(answer.batchSize, 130);
    assert.ok(answer.latencyMs > 0);
    assert.ok(relativeError(answer.probabilities, await probabilities(EXPECTED)) <= 1e-6);
  });

  test('--out writes them, whatever the plan and the thread count', async () => {
    const out = join(folder, 'out.safetensors');
    const plan = join(folder, 'plan.json');
    await writeFile(
      plan,
      JSON.stringify({
        version: 1,
        device: 'cpu',
        kernel: 'standard',
        techniques: { hugePages: {}, prefetch: { distance: 3, level: 'NTA' } },
      }),
    );
    const runs = [
      ['--plan', 'plain', '--threads', '1'],
      ['--plan', plan],
      ['--threads', '3'],
    ];
    const outputs: Float32Array[] = [];
    for (const options of runs) {
      const { code, stdout, stderr } = await hotrow('predict', MODEL, REQUEST, '--out', out, ...options);
      assert.equal(code, 0, stderr);
      assert.match(stdout, /scored {2}130 samples/);
      outputs.push(await probabilities(out));
    }
    assert.deepEqual(outputs[1], outputs[0]);
    assert.deepEqual(outputs[2], outputs[0]);
    assert.ok(relativeError(outputs[0] as Float32Array, await probabilities(EXPECTED)) <= 1e-6);
  });

  const criteo = goldenPath('criteo_dlrm.pt');
  test('Criteo rows through the .pt checkpoint', {
    skip: criteo === undefined && 'the Criteo files are not here',
  }, async () => {
    const files = [
      'criteo_sample.csv',
      'criteo_vocab.json',
      'criteo.request.safetensors',
      'criteo.expected.safetensors',
      'criteo_dlrm.safetensors',
    ];
    const [csv, vocabulary, request, expected, twin] = files.map((name) => goldenPath(name) as string) as [
      string,
      string,
      string,
      string,
      string,
    ];
    const reference = await probabilities(expected);
    for (const args of [
      [criteo as string, csv, '--vocabulary', vocabulary],
      [criteo as string, request],
      [twin, request],
    ]) {
      const { code, stdout, stderr } = await hotrow('predict', ...args, '--format', 'json');
      assert.equal(code, 0, stderr);
      assert.ok(relativeError(JSON.parse(stdout).probabilities, reference) <= 1e-6);
    }
    await fails(['predict', criteo as string, csv], 'USAGE', /--vocabulary/).catch(async () => {
      const { code, stderr } = await hotrow('predict', criteo as string, csv);
      assert.equal(code, 2);
      assert.match(stderr, /--vocabulary FILE, or --hash/);
    });
  });

  test('Criteo rows of any name, with what their numbers become', {
    skip: criteo === undefined && 'the Criteo files are not here',
  }, async () => {
    const rows = join(folder, 'day_0');
    await writeFile(rows, await readFile(goldenPath('criteo_sample.csv') as string));
    const args = [
      'predict',
      criteo as string,
      rows,
      '--vocabulary',
      goldenPath('criteo_vocab.json') as string,
    ];
    const usual = await hotrow(...args, '--limit', '2', '--format', 'json');
    assert.equal(usual.code, 0, usual.stderr);
    assert.match(
      usual.stderr,
      /^note: numbers of .*day_0 become log\(1 \+ max\(x, 0\)\), as facebookresearch/,
    );
    const other = await hotrow(...args, '--limit', '2', '--dense', 'log3', '--format', 'json');
    assert.equal(other.code, 0, other.stderr);
    assert.match(other.stderr, /^note: numbers of .*day_0 become log\(x \+ 3\), as asked for$/m);
    assert.notDeepEqual(JSON.parse(other.stdout).probabilities, JSON.parse(usual.stdout).probabilities);
    assert.equal((await hotrow(...args, '--dense', 'log2')).code, 2);
  });

  test('a batch of 0 rows answers with none', async () => {
    const empty = join(folder, 'empty.safetensors');
    const none = { indices: new Int32Array(0), offsets: new Int32Array(0) };
    await writeRequest(empty, {
      batchSize: 0,
      denseFeatures: 10,
      dense: new Float32Array(0),
      bags: [none, none, none, none],
    });
    const { code, stdout, stderr } = await hotrow('predict', MODEL, empty, '--format', 'json');
    assert.equal(code, 0, stderr);
    assert.deepEqual(JSON.parse(stdout).probabilities, []);
  });

  test('NaN in dense features passes through', async () => {
    const file = await brokenRequest((request) => {
      request.dense[0] = Number.NaN;
    });
    const { code, stdout } = await hotrow('predict', MODEL, file, '--format', 'json');
    assert.equal(code, 0);
    const { probabilities: given } = JSON.parse(stdout);
    assert.equal(given[0], null);
    assert.ok(given.slice(1).every((value: unknown) => typeof value === 'number'));
  });

  test('bad indices and offsets are named by table, position and value', async () => {
    const index = await brokenRequest(({ bags }) => {
      (bags[2]?.indices as BigInt64Array)[17] = 800n;
    });
    await fails(
      ['predict', MODEL, index],
      'INDEX_OUT_OF_RANGE',
      /broken\.safetensors: table 2 \(t_cat_2\): indices\[17\] = 800 is not a row of \[0, 800\)\nhint: /,
    );
    const negative = await brokenRequest(({ bags }) => {
      (bags[0]?.indices as BigInt64Array)[0] = -1n;
    });
    await fails(
      ['predict', MODEL, negative, '--out', join(folder, 'never')],
      'INDEX_OUT_OF_RANGE',
      /indices\[0\] = -1/,
    );
    assert.ok(!(await readdir(folder)).includes('never'), 'nothing half-done');
    const first = await brokenRequest(({ bags }) => {
      (bags[1]?.offsets as BigInt64Array)[0] = 2n;
    });
    await fails(['predict', MODEL, first], 'OFFSETS_INVALID', /offsets\[0\] = 2, must be 0/);
    const decreasing = await brokenRequest(({ bags }) => {
      (bags[1]?.offsets as BigInt64Array)[5] = 0n;
    });
    await fails(
      ['predict', MODEL, decreasing],
      'OFFSETS_INVALID',
      /offsets\[5\] = 0 is less than offsets\[4\]/,
    );
    const past = await brokenRequest(({ bags }) => {
      (bags[3]?.offsets as BigInt64Array)[130] = 99999n;
    });
    await fails(['predict', MODEL, past], 'OFFSETS_INVALID', /offsets\[130\] = 99999 is past the end/);
  });

  test('warn repairs and reports, ignore repairs silently', async () => {
    const file = await brokenRequest(({ bags }) => {
      (bags[2]?.indices as BigInt64Array)[17] = 800n;
    });
    const warned = await hotrow('predict', MODEL, file, '--index-checking', 'warn', '--format', 'json');
    assert.equal(warned.code, 0);
    assert.match(warned.stderr, /warning: 1 bad indices.*table 2/);
    const ignored = await hotrow('predict', MODEL, file, '--index-checking', 'ignore', '--format', 'json');
    assert.equal(ignored.stderr, '');
    assert.deepEqual(JSON.parse(ignored.stdout).probabilities, JSON.parse(warned.stdout).probabilities);
  });

  test('requests that do not fit the model', async () => {
    const missing = await brokenRequest(({ bags }) => {
      (bags as unknown[]).pop();
    });
    await fails(['predict', MODEL, missing], 'TABLE_MISSING', /feature t_cat_3: table 3 is missing/);
    const extra = await brokenRequest(({ bags }) => {
      (bags as unknown[]).push(bags[0]);
    });
    await fails(['predict', MODEL, extra], 'TABLE_UNEXPECTED', /indices\.4: table 4 of a model of 4 tables/);
    const narrow = join(folder, 'narrow.safetensors');
    const { tensors } = await readSafetensors(REQUEST);
    const parts = new Map(
      await Promise.all(
        [...tensors].map(async ([name, tensor]) => [name, await readTensor(tensor)] as const),
      ),
    );
    await writeSafetensors(
      narrow,
      new Map([
        ...parts,
        ['dense', { dtype: 'float32' as const, shape: [130, 9], data: new Float32Array(130 * 9) }],
      ]),
    );
    await fails(
      ['predict', MODEL, narrow],
      'TENSOR_SHAPE',
      /dense has \[130, 9\], the model takes \[130, 10\]/,
    );
    await writeSafetensors(
      narrow,
      new Map([
        ...parts,
        ['indices.0', { dtype: 'float32' as const, shape: [2], data: new Float32Array(2) }],
      ]),
    );
    await fails(['predict', MODEL, narrow], 'TENSOR_DTYPE', /indices.0 is float32/);
  });

  test('files that are not there, not readable, not what they say', async () => {
    await fails(['predict', join(folder, 'none.pt'), REQUEST], 'FILE_NOT_FOUND', /none.pt/);
    const text = join(folder, 'text.pt');
    await writeFile(text, 'version https://git-lfs.github.com/spec/v1\n');
    await fails(['predict', text, REQUEST], 'FORMAT_UNKNOWN', /git lfs pull/);
    await fails(['predict', REQUEST, MODEL], 'FORMAT_UNKNOWN', /are model and request swapped\?/);
    const array = join(folder, 'request.safetensors');
    await writeFile(array, '\x93NUMPY\x01\x00v\x00', 'latin1');
    await fails(['predict', MODEL, array], 'FORMAT_UNKNOWN', /is a NumPy array \(\.npy\), not a request/);
    const cut = join(folder, 'cut.safetensors');
    await writeFile(cut, (await readFile(MODEL)).subarray(0, 5000));
    await fails(['predict', cut, REQUEST], 'SAFETENSORS_INVALID', /bytes short/);
    const evil = join(folder, 'evil.pt');
    await writeFile(evil, Buffer.from('\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.', 'latin1'));
    await fails(
      ['predict', evil, REQUEST],
      'FORMAT_UNKNOWN',
      /is a pickle that torch.save did not write, not a checkpoint\nhint: nothing in it was executed/,
    );
  });
});

describe('hotrow inspect, trace, devices', () => {
  test('inspect gives architecture, tables and bytes', async () => {
    const { code, stdout } = await hotrow('inspect', MODEL, '--format', 'json');
    assert.equal(code, 0);
    const summary = JSON.parse(stdout);
    assert.deepEqual(summary.bottom, [10, 64, 32]);
    assert.deepEqual(summary.top, [160, 96, 40, 1]);
    assert.equal(summary.bytes.tables, (3000 + 50 + 800 + 12) * 32 * 4);
    assert.match((await hotrow('inspect', MODEL)).stdout, /DCNv2 cross, 3 layers of rank 48/);
  });

  test('trace counts', async () => {
    const file = join(folder, 'trace.txt');
    await writeFile(file, '5\n5\n7\r\n5\n9\n\n');
    const { code, stdout, stderr } = await hotrow('trace', file, '--format', 'json');
    assert.equal(code, 0, stderr);
    const [table] = JSON.parse(stdout).tables;
    assert.deepEqual([table.lookups, table.distinct, table.highestRow], [5, 3, 9]);
    assert.deepEqual(table.reuse, [
      { from: 1, to: 1, rows: 2 },
      { from: 2, to: 2, rows: 0 },
      { from: 3, to: 4, rows: 1 },
    ]);
    await writeFile(file, '1\n2\n3\n4\n5\n6\nseven\n8\n');
    await fails(['trace', file], 'TRACE_INVALID', /line 7: "seven" is not a row index/);
    await writeFile(file, '');
    await fails(['trace', file], 'TRACE_EMPTY', /holds no lookups/);
  });

  test('trace counts requests by table, as their model has them', async () => {
    const { code, stdout, stderr } = await hotrow(
      ...['trace', REQUEST, `t_cat_1=${join(folder, 'named.txt')}`, '--model', MODEL, '--format', 'json'],
    );
    assert.equal(code, 1);
    assert.match(stderr, /^error\[FILE_NOT_FOUND\]: .*named\.txt/);
    assert.equal(stdout, '');
    await writeFile(join(folder, 'named.txt'), '5\n5\n7\n');
    const counted = await hotrow(
      ...['trace', REQUEST, `t_cat_1=${join(folder, 'named.txt')}`, '--model', MODEL, '--format', 'json'],
    );
    assert.equal(counted.code, 0, counted.stderr);
    const [request, named] = JSON.parse(counted.stdout);
    assert.deepEqual([request.format, request.tables.length, request.tables[3].rows], ['safetensors', 4, 12]);
    assert.deepEqual(
      named.tables.map(({ lookups }: { readonly lookups: number }) => lookups),
      [0, 3, 0, 0],
    );
    assert.match((await hotrow('trace', REQUEST)).stdout, /: 4 tables\n/);
  });

  test('devices lists the CPU', async () => {
    const { code, stdout } = await hotrow('devices', '--format', 'json');
    assert.equal(code, 0);
    const [device] = JSON.parse(stdout).devices;
    assert.equal(device.kind, 'cpu');
    assert.ok(device.threads >= 1);
  });
});

describe('hotrow bench', () => {
  const small = [
    '--tables',
    '2',
    '--rows',
    '2000',
    '--dim',
    '16',
    '--batch',
    '64',
    '--bag-lengths',
    'uniform:0:9',
    '--rounds',
    '2',
    '--no-peers',
  ];

  test('results fit their schema, every technique has its row, the table fits a terminal', async () => {
    const file = join(folder, 'results.json');
    const { code, stdout, stderr } = await hotrow('bench', ...small, '--json', file);
    assert.equal(code, 0, stderr);
    const results = JSON.parse(await readFile(file, 'utf8'));
    assert.deepEqual(Value.Errors(resultsSchema, results), []);
    assert.deepEqual(
      [...new Set(results.embedding.map((row: { pattern: string }) => row.pattern))],
      ['one_item', 'high_hot', 'med_hot', 'low_hot', 'random'],
    );
    const variants = results.embedding
      .filter((row: { pattern: string }) => row.pattern === 'random')
      .map((row: { variant: string }) => row.variant);
    assert.equal(variants[0], 'standard');
    assert.ok(variants.some((variant: string) => variant.startsWith('standard + prefetch')));
    for (const line of stdout.split('\n')) assert.ok(line.length <= 80, `${line.length}: ${line}`);
    assert.equal(stderr, 'charts: add --report bench.html; a server to try: hotrow serve --preset quick\n');
  });

  test("the paper's protocol runs on a CPU, and says whose its claims are", async () => {
    const file = join(folder, 'artifact.json');
    const { code, stdout, stderr } = await hotrow(
      ...['bench', '--preset', 'artifact', '--device', 'cpu', '--rows', '50', '--dim', '8', '--batch', '16'],
      ...[
        '--bag-lengths',
        '2',
        '--patterns',
        'one_item,random',
        '--rounds',
        '1',
        '--no-peers',
        '--json',
        file,
      ],
    );
    assert.equal(code, 0, stderr);
    const results = JSON.parse(await readFile(file, 'utf8'));
    assert.deepEqual(Value.Errors(resultsSchema, results), []);
    assert.deepEqual(
      [results.preset, results.collection.length, results.model[0].tables],
      ['artifact', 2, 2],
    );
    assert.match(stdout, /^the paper's claims, on an A100, and what cpu gives:$/m);
    assert.match(stdout, /^note: the paper's claims are about GPUs: .* on 2 tables \(--tables N: on N\)$/m);
    const tables = stdout.split('\n').filter((line) => !line.startsWith('note: '));
    for (const line of tables) assert.ok(line.length <= 80, `${line.length}: ${line}`);
  });

  test('traces, patterns and models are told apart', async () => {
    const trace = join(folder, 'bench.txt');
    await writeFile(trace, Array.from({ length: 50 }, (_, i) => i * 7).join('\n'));
    const traced = await hotrow('bench', ...small, '--trace', trace, '--format', 'json');
    assert.equal(traced.code, 0, traced.stderr);
    assert.equal(traced.stderr, '');
    assert.equal(JSON.parse(traced.stdout).embedding[0].pattern, 'bench');
    const modelled = await hotrow(
      'bench',
      MODEL,
      '--patterns',
      'random',
      '--batch',
      '32',
      '--bag-lengths',
      '3',
      '--rounds',
      '2',
      '--no-peers',
      '--format',
      'json',
    );
    assert.equal(modelled.code, 0, modelled.stderr);
    assert.equal(JSON.parse(modelled.stdout).collection.length, 4);
  });

  test('wrong usage exits with 2', async () => {
    for (const args of [
      ['bench', '--patterns', 'warm'],
      ['bench', '--rounds', '0'],
      ['bench', '--bag-lengths', 'long'],
      ['bench', '--device', 'tpu'],
      ['bench', MODEL, '--rows', '5'],
      ['predict', MODEL],
      ['fly'],
    ]) {
      const { code, stderr, stdout } = await hotrow(...args);
      assert.equal(code, 2, `${args.join(' ')}: ${stderr}`);
      assert.equal(stdout, '');
      assert.notEqual(stderr, '');
    }
  });

  test('an illegal plan and tables that do not fit are refused before any work', async () => {
    const plan = join(folder, 'illegal.json');
    await writeFile(
      plan,
      JSON.stringify({
        version: 1,
        device: 'cpu',
        kernel: 'standard',
        techniques: { threads: { count: 900 } },
      }),
    );
    await fails(['predict', MODEL, REQUEST, '--plan', plan], 'PLAN_ILLEGAL', /900 threads/);
    await writeFile(
      plan,
      JSON.stringify({ version: 1, device: 'cpu', kernel: 'standard', techniques: { warp: {} } }),
    );
    await fails(['predict', MODEL, REQUEST, '--plan', plan], 'PLAN_INVALID', /warp|techniques/);
    await fails(
      [
        'bench',
        '--tables',
        '1',
        '--rows',
        '20000000000',
        '--batch',
        '1',
        '--bag-lengths',
        '1',
        '--patterns',
        'one_item',
      ],
      'MODEL_TOO_LARGE',
      /GiB/,
    );
  });
});
