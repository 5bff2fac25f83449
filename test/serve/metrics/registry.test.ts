import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MetricsBlock, type Series, seriesKey, seriesOf } from '../../../src/serve/metrics/metrics-block.ts';
import { collected, type Figure, MetricsRegistry } from '../../../src/serve/metrics/registry.ts';
import fc from '../../support/properties.ts';

const MODEL = { model: 'm' };
const SERIES = [
  seriesOf('samples', MODEL),
  seriesOf('queuedRequests', MODEL),
  seriesOf('batchSamples', MODEL),
  seriesOf('duration', { model: 'm', result: 'ok' }),
];

function numbersOf(figures: readonly Figure[], series: Series): readonly number[] | undefined {
  const found = figures.filter((figure) => seriesKey(figure) === seriesKey(series));
  assert.ok(found.length <= 1, 'a series stands once');
  return found[0] === undefined ? undefined : [...found[0].values];
}

const steps = fc.array(
  fc.record({
    writer: fc.nat(3),
    // Eighths add up exactly, in any order.
    value: fc.nat(4000).map((n) => n / 8),
    metric: fc.constantFrom('samples', 'queuedRequests', 'batchSamples', 'duration'),
    times: fc.integer({ min: 1, max: 5 }),
  }),
  { maxLength: 60 },
);

function apply(block: MetricsBlock, step: { value: number; metric: string; times: number }): void {
  if (step.metric === 'samples') block.counter('samples', MODEL).add(step.value);
  else if (step.metric === 'queuedRequests') block.gauge('queuedRequests', MODEL).add(step.value);
  else if (step.metric === 'batchSamples')
    block.histogram('batchSamples', MODEL).observe(step.value, step.times);
  else block.histogram('duration', { model: 'm', result: 'ok' }).observe(step.value, step.times);
}

test('what several threads count is what one would have counted', () => {
  fc.assert(
    fc.property(steps, fc.nat(60), (all, retiredAt) => {
      const [several, alone] = [new MetricsRegistry(), new MetricsRegistry()];
      const blocks = Array.from({ length: 4 }, () => MetricsBlock.of(SERIES));
      const held = blocks.map((block) => several.add(block.shared));
      const one = MetricsBlock.of(SERIES);
      alone.add(one.shared);
      for (const [i, step] of all.entries()) {
        // A writer that goes away leaves its counts; its gauges go with it, so that it must have none.
        if (
          i === retiredAt &&
          !all.some(({ metric, writer }) => metric === 'queuedRequests' && writer === 0)
        ) {
          held[0]?.retire();
          held[0]?.retire();
          blocks[0] = MetricsBlock.of(SERIES);
          several.add(blocks[0].shared);
        }
        apply(blocks[step.writer] as MetricsBlock, step);
        apply(one, step);
      }
      assert.deepEqual(several.read(), alone.read());
    }),
  );
});

test('a series has the numbers that it was given, and its neighbours theirs', () => {
  const block = MetricsBlock.of([
    seriesOf('samples', MODEL),
    ...SERIES.slice(2),
    seriesOf('busy', { model: 'm', instance: '0' }),
  ]);
  block.counter('samples', MODEL).add();
  block.counter('samples', MODEL).add(2);
  block.histogram('batchSamples', MODEL).observe(3, 4);
  block.histogram('batchSamples', MODEL).observe(2 ** 21, 2);
  block.counter('busy', { model: 'm', instance: '0' }).add(0.5);
  const read = ({ metric, labels }: Series) => [...block.read({ metric, labels })];
  const [samples = [], sizes = [], durations = [], busy = []] = block.shared.series.map(read);
  assert.deepEqual(samples, [3]);
  assert.deepEqual(sizes.slice(0, 4), [0, 0, 4, 0]);
  assert.deepEqual(sizes.slice(-3), [0, 2, 12 + 2 ** 22]);
  assert.ok(durations.every((value) => value === 0));
  assert.deepEqual(busy, [0.5]);
  const gauges = MetricsBlock.of([seriesOf('queuedRequests', MODEL)]);
  gauges.gauge('queuedRequests', MODEL).add(2);
  gauges.gauge('queuedRequests', MODEL).add(-1);
  assert.deepEqual([...gauges.read(seriesOf('queuedRequests', MODEL))], [1]);
});

test('counters are there from the start; gauges when they were set', () => {
  const registry = new MetricsRegistry();
  const block = MetricsBlock.of(SERIES);
  registry.add(block.shared);
  assert.deepEqual(numbersOf(registry.read(), seriesOf('samples', MODEL)), [0]);
  assert.equal(numbersOf(registry.read(), seriesOf('queuedRequests', MODEL)), undefined);
  block.gauge('queuedRequests', MODEL).set(0);
  assert.deepEqual(numbersOf(registry.read(), seriesOf('queuedRequests', MODEL)), [0]);
});

test('gauges are added, or the largest, or the mean, as their metric says', () => {
  const registry = new MetricsRegistry();
  const coverage = { model: 'm', table: '' };
  const series = [
    seriesOf('queuedRequests', MODEL),
    seriesOf('lastInference', MODEL),
    seriesOf('coverage', coverage),
  ];
  for (const value of [2, 6, 1]) {
    const block = MetricsBlock.of(series);
    block.gauge('queuedRequests', MODEL).set(value);
    block.gauge('lastInference', MODEL).set(value);
    block.gauge('coverage', coverage).set(value);
    registry.add(block.shared);
  }
  registry.add(MetricsBlock.of(series).shared);
  assert.deepEqual(
    series.map((one) => numbersOf(registry.read(), one)),
    [[9], [6], [3]],
  );
});

test('collectors are asked when figures are read, until they end', () => {
  const registry = new MetricsRegistry();
  let bytes = 1;
  const { end } = registry.collect(() => [
    collected('slotBytes', {}, bytes++),
    collected('slotCapacity', {}, Number.NaN),
  ]);
  assert.deepEqual(numbersOf(registry.read(), seriesOf('slotBytes', {})), [1]);
  assert.deepEqual(numbersOf(registry.read(), seriesOf('slotBytes', {})), [2]);
  assert.equal(numbersOf(registry.read(), seriesOf('slotCapacity', {})), undefined);
  end();
  assert.deepEqual(registry.read(), []);
});

test('writers that are gone keep their counts and lose their gauges, until the model is forgotten', () => {
  const registry = new MetricsRegistry();
  const block = MetricsBlock.of([...SERIES, seriesOf('samples', { model: 'other' })]);
  block.counter('samples', MODEL).add(3);
  block.counter('samples', { model: 'other' }).add(4);
  block.gauge('queuedRequests', MODEL).set(5);
  registry.add(block.shared).retire();
  const next = MetricsBlock.of(SERIES);
  registry.add(next.shared).retire();
  assert.deepEqual(numbersOf(registry.read(), seriesOf('samples', MODEL)), [3]);
  assert.equal(numbersOf(registry.read(), seriesOf('queuedRequests', MODEL)), undefined);
  registry.forget('m');
  assert.equal(numbersOf(registry.read(), seriesOf('samples', MODEL)), undefined);
  assert.deepEqual(numbersOf(registry.read(), seriesOf('samples', { model: 'other' })), [4]);
});

test('labels are safe to show, and short', () => {
  const registry = new MetricsRegistry();
  const model = `a\n\u202e${'x'.repeat(1000)}`;
  registry.add(MetricsBlock.of([seriesOf('samples', { model })]).shared);
  const [label = ''] = registry.read()[0]?.labels ?? [];
  assert.match(label, /^a\\n\\u202ex+…/);
  assert.ok(label.length < 300);
});

test('a block has what its series say, and nothing else', () => {
  const block = MetricsBlock.of([seriesOf('samples', MODEL)]);
  assert.throws(() => block.counter('batches', MODEL), /has no/);
  assert.throws(() => block.counter('samples', { model: 'other' }), /has no/);
  assert.throws(() => MetricsBlock.of([seriesOf('samples', MODEL), seriesOf('samples', MODEL)]), /twice/);
  assert.throws(
    () => new MetricsBlock({ series: SERIES, buffer: block.shared.buffer }),
    /8 bytes for \d+ numbers/,
  );
  assert.throws(() => seriesOf('samples', {} as never), /without model/);
});

test('values below 0 count as 0', () => {
  const block = MetricsBlock.of([seriesOf('batchSamples', MODEL)]);
  block.histogram('batchSamples', MODEL).observe(-5);
  block.histogram('batchSamples', MODEL).observe(Number.NaN);
  const values = block.read(seriesOf('batchSamples', MODEL));
  assert.equal(values[0], 2);
  assert.equal(values.at(-1), 0);
});
