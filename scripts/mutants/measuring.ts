/** What measures, compares and chooses: the benchmark, the tuner, plans, and what is saved of them. */
import { type Mutant, mutantsOf } from './mutant.ts';

export const MEASURING: readonly Mutant[] = [
  ...mutantsOf(
    'src/tuner/quantile.ts',
    [
      ['q * (sorted.length - 1)', 'q * sorted.length'],
      ['(at - Math.floor(at))', '(Math.ceil(at) - at)'],
      ['low + (high - low)', 'high - (high - low)'],
      ['/ samples.length', '/ (samples.length - 1)'],
      ['samples.toSorted((a, b) => a - b)', 'samples.toSorted()'],
      ['    0.5,\n', '    0.25,\n'],
    ],
    ['test/tuner/quantile.test.ts'],
  ),
  ...mutantsOf(
    'src/evaluate/agreement.ts',
    [
      ['Math.ceil(quantile * length) - 1', 'Math.floor(quantile * length)'],
      ['at(values, i) - at(reference, i)', 'at(reference, i) - at(values, i)'],
      ['label === 1 ? -logit : logit', 'label === 1 ? logit : -logit'],
      ['(first + 1 + end) / 2', '(first + end) / 2'],
      ['at(scores, at(order, end)) === score', 'false || end === first'],
      ['ones === 0 || zeros === 0', 'ones === 0'],
      ['Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)))', 'Math.log1p(Math.exp(x))'],
      ['probabilities / ones', 'ones / probabilities'],
      ['at(reference, a) - at(reference, b)', 'at(logits, b) - at(logits, a)'],
    ],
    ['test/evaluate/agreement.test.ts'],
  ),
  ...mutantsOf(
    'src/evaluate/evaluate.ts',
    [
      ['    this.#count += model.length;\n', ''],
      ['random.float() < sigmoid(logit)', 'random.float() > sigmoid(logit)'],
      ['  if (left > 0)\n', '  if (left > 100)\n'],
      ['Math.min(samples.count, from + batchSize)', 'from + batchSize'],
      ['Number.isFinite(model[i]) && Number.isFinite(reference[i])', 'Number.isFinite(reference[i])'],
    ],
    ['test/evaluate/evaluate.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/statistics.ts',
    [
      ['samplesMs.toSorted((a, b) => a - b)', 'samplesMs.toSorted()'],
      ['p10Ms: quantile(sorted, 0.1)', 'p10Ms: quantile(sorted, 0.01)'],
      ['p90Ms: quantile(sorted, 0.9)', 'p90Ms: quantile(sorted, 0.99)'],
      ['sorted.length >= P99_ROUNDS', 'sorted.length > P99_ROUNDS'],
      ['{ p99Ms: quantile(sorted, 0.99) }', '{ p99Ms: quantile(sorted, 0.9) }'],
      ['minMs: quantile(sorted, 0)', 'minMs: quantile(sorted, 1)'],
    ],
    ['test/bench/statistics.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/embedding-bench.ts',
    [
      ['speedup: baselineMs / median(batchMs)', 'speedup: median(batchMs) / baselineMs'],
      [
        'workload.traffic.lookupRowBytes / median(batchMs) / 1e6',
        'workload.traffic.lookupRowBytes / median(batchMs) / 1e9',
      ],
      [
        'limitShare: limitMs(workload.traffic, ceilings) / median(batchMs)',
        'limitShare: median(batchMs) / limitMs(workload.traffic, ceilings)',
      ],
      ['return 1e3 * Math.max(', 'return 1e3 * Math.min('],
      ['microseconds.toSorted((a, b) => a - b)', 'microseconds.toSorted()'],
      ['samples.batchMs.push(seconds * 1e3);', 'samples.batchMs.push(seconds * 1e6);'],
      [
        'samples.bagsUs.push(...launches.map((launch) => launch * 1e6));',
        'samples.bagsUs.push(...launches.map((launch) => launch * 1e3));',
      ],
      ['if (i < warmup) continue;', ''],
      ["if (kind === 'pin') samples.pinUs", "if (kind === 'bags') samples.pinUs"],
      ['if (differs === undefined) continue;', 'continue;'],
      ['round < 0 ? new Samples() : samples', 'samples'],
      ['.slice(warmup)', ''],
      ['median(contenders[0]?.samples.batchMs ?? [])', 'median(contenders.at(-1)?.samples.batchMs ?? [])'],
    ],
    ['test/bench/embedding-bench.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/compare-model.ts',
    [
      [
        '(baseline.get(key(row)) as number) / batchMs(row)',
        'batchMs(row) / (baseline.get(key(row)) as number)',
      ],
      ['`${pattern} ${inputs}`', '`${pattern}`'],
      ["rows.filter(({ role }) => role === 'plain')", "rows.filter(({ role }) => role !== 'plain')"],
      ['measured.filter(({ pattern }) => pattern === run.workload.pattern)', 'measured'],
    ],
    ['test/bench/compare-model.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/measure-model.ts',
    [
      ['if (round >= warmUp) latencies.push(latencyMs);', 'latencies.push(latencyMs);'],
      ['(first.batchSize / batchMs) * 1e3', '(first.batchSize / batchMs) * 1e6'],
      ["Math.min(1, stage('embeddingMs') / staged)", "Math.min(1, staged / stage('embeddingMs'))"],
      ['bytes / (batchMs / 1e3)', 'bytes / (batchMs * 1e3)'],
      ['/ (rounds + inFlight - 1)', '/ rounds'],
      ['    for (const request of placed) request[Symbol.dispose]();\n', ''],
      ['    for (const one of pinned) one[Symbol.dispose]();\n', ''],
      [
        'inputLimitShare: bytesPerSecond / hostCopyBytesPerSecond',
        'inputLimitShare: hostCopyBytesPerSecond / bytesPerSecond',
      ],
      ["bottomMs: stage('bottomMs')", "bottomMs: stage('topMs')"],
    ],
    ['test/bench/compare-model.test.ts', 'test/bench/measure-model.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/comparison.ts',
    [
      ['other.medianUs / own.medianUs', 'own.medianUs / other.medianUs'],
      ['row.tablesPerLaunch ?? (isFused(row) ? row.tables : 1)', 'row.tablesPerLaunch ?? 1'],
      ['Number.isFinite(speedup) ? speedup : undefined', 'speedup'],
      ['row.sweep === undefined', 'row.sweep !== undefined'],
    ],
    ['test/bench/comparison.test.ts', 'test/report/findings.test.ts'],
  ),
  ...mutantsOf(
    'src/bench/race.ts',
    [
      ['return count <= MOST_RACED', 'return count < MOST_RACED'],
      ['using timer = new EmbeddingTimer', 'const timer = new EmbeddingTimer'],
      ['batches.map((batch) => bagsOf(batch, raced))', 'batches'],
    ],
    ['test/bench/race.test.ts'],
  ),
  ...mutantsOf(
    'src/tuner/side-by-side.ts',
    [
      ['median(turn) / median(challenger[i] ?? [])', 'median(challenger[i] ?? []) / median(turn)'],
      ['gainLow > 1 && gain >= LEAST_GAIN', 'gain >= LEAST_GAIN'],
      ['gains.length - 1 - rank', 'gains.length - 2 - rank'],
      ['below <= 0.025', 'below <= 0.25'],
      ['round % 2 === 0 ? order', 'round % 2 >= 0 ? order'],
      ['if (round >= LEAST_ROUNDS && isTime) break;', 'if (isTime) break;'],
    ],
    ['test/tuner/side-by-side.test.ts'],
  ),
  ...mutantsOf(
    'src/tuner/search.ts',
    [
      ['    0.25,\n', '    0.75,\n'],
      ['typical(batchMs) <= best * (1 + slack)', 'typical(batchMs) <= best'],
      ['techniques(b) < techniques(a) ? b : a', 'techniques(b) > techniques(a) ? b : a'],
      ['began += performance.now() - start;', ''],
      ['typical(own.batchMs) * (1 - EQUAL)', 'typical(own.batchMs) * (1 + EQUAL)'],
      ['&& everMeasured(anyway, entrants)', ''],
      ['if (batchMs.length === 0) await timer.run(plan, done);', ''],
      ['Math.min(registers, cap)', 'Math.max(registers, cap)'],
    ],
    ['test/tuner/search.test.ts'],
  ),
  ...mutantsOf(
    'src/tuner/queued-timer.ts',
    [
      ['Math.ceil(QUEUE_MS / lastMs)', 'Math.ceil(lastMs / QUEUE_MS)'],
      ['this.#timer.batches - 1)', 'this.#timer.batches)'],
      ['if (!this.#timer.device.capabilities.runsBesideHost) return 0;', ''],
    ],
    ['test/tuner/queued-timer.test.ts'],
  ),
  ...mutantsOf(
    'src/tuner/embedding-timer.ts',
    [
      ['(seconds[ahead] ?? Number.NaN) * 1e3', '(seconds[0] ?? Number.NaN) * 1e3'],
      ['turn + (this.batches - 1) * i', 'turn'],
      ['filter(({ operation }) => operation === ahead)', 'filter(() => true)'],
      ['    for (const bags of this.#bags.splice(0)) bags[Symbol.dispose]();\n', ''],
      ['    for (const placed of this.#placed.values()) placed[Symbol.dispose]();\n', ''],
      ['    this.#output?.[Symbol.dispose]();\n', ''],
    ],
    ['test/tuner/embedding-timer.test.ts'],
  ),
  ...mutantsOf(
    'src/plan/saved-plans.ts',
    [
      [
        'tables.map(({ rows, dim, rowFormat }) => [rows, dim, rowFormat])',
        'tables.map(({ rows, dim }) => [rows, dim])',
      ],
      ['sharesTables(tables) ? [shapes, tableNumbers(tables)] : shapes', 'shapes'],
      ['[device.name, device.architecture]', '[device.name]'],
      ['-batch-${batchSize}-', '-'],
      ['Math.round(100 * distinctShare)', 'Math.round(10 * distinctShare)'],
      ['if (tunedOn.device !== device.name) return', 'if (tunedOn.device === device.name) return'],
      ['if (tunedOn.architecture !== device.architecture) {', 'if (tunedOn.architecture === undefined) {'],
      ['Object.keys({ ...now, ...tunedOn.versions })', 'Object.keys(now)'],
      ['?? refusals(saved, context)[0]', ''],
      ['at(a) < at(b) ? 1 : at(a) > at(b) ? -1 : 0', 'at(a) < at(b) ? -1 : at(a) > at(b) ? 1 : 0'],
      [
        'Math.abs(tunedOn.distinctShare - traffic.distinctShare)',
        '(tunedOn.distinctShare - traffic.distinctShare)',
      ],
    ],
    ['test/plan/saved-plans.test.ts'],
  ),
];
