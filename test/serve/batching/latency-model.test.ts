import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LatencyModel, largestWithin } from '../../../src/serve/batching/latency-model.ts';
import { Random } from '../../support/random.ts';
import { SEED } from '../../support/seed.ts';

const same = (samples: number) => samples;
const line = (samples: number) => 0.12 + 0.00014 * samples;
const warmUp = [270, 4320].map((samples) => ({ samples, ms: line(samples) }));

function near(actual: number, expected: number, share: number, what = ''): void {
  assert.ok(Math.abs(actual - expected) <= share * expected, `${what} ${actual}, expected ${expected}`);
}

/** Batches of 1 to 24 requests. */
function observe(
  model: LatencyModel,
  count: number,
  msOf: (samples: number) => number,
  random = new Random(SEED + 1000),
): void {
  for (let i = 0; i < count; i++) {
    const samples = 270 * random.integer(1, 24);
    model.observe(samples, msOf(samples));
  }
}

test('it predicts nothing until it knows anything', () => {
  const model = new LatencyModel({ capacityOf: same });
  assert.equal(model.predictMs(1e6), 0);
  assert.equal(model.slaSamples(1), 2 ** 31 - 1);
  assert.deepEqual(model.fits(), []);
});

test('the warm-up is the fit before the first batch', () => {
  const model = new LatencyModel({ capacityOf: same, warmUp });
  for (const samples of [0, 1, 270, 5000, 50_000]) near(model.predictMs(samples), line(samples), 1e-9);
  assert.equal(model.slaSamples(1), Math.floor((1 - 0.12) / 0.00014 + 1e-9));
});

test('a model like it starts from its line, without what makes predictions late', () => {
  assert.deepEqual(new LatencyModel({ capacityOf: same }).usual(4320), []);
  const model = new LatencyModel({ capacityOf: same, warmUp });
  const told = () => model.usual(4320);
  const expected = (times: number) => [1, 4320].map((samples) => ({ samples, ms: times * line(samples) }));
  const check = (times: number) =>
    told().forEach(({ samples, ms }, i) => {
      assert.equal(samples, expected(times)[i]?.samples);
      near(ms, expected(times)[i]?.ms ?? 0, 0.02);
    });
  check(1);
  // One batch in ten takes four times as long.
  let count = 0;
  observe(model, 500, (samples) => (count++ % 10 === 9 ? 4 : 1) * 2 * line(samples));
  assert.ok(model.predictMs(4320) > 4 * line(4320));
  check(2);
});

test('a warm-up of one size takes half of its time as fixed; of each size the quickest batch counts', () => {
  const one = new LatencyModel({ capacityOf: same, warmUp: [{ samples: 100, ms: 4 }] });
  near(one.predictMs(100), 4, 1e-9);
  near(one.predictMs(200), 6, 1e-9);
  const cold = new LatencyModel({ capacityOf: same, warmUp: [{ samples: 270, ms: 50 }, ...warmUp] });
  near(cold.predictMs(270), line(270), 1e-9);
});

test('a warm-up whose larger batch is no slower is a constant; one that grows beyond proportion has no fixed cost', () => {
  const flat = new LatencyModel({
    capacityOf: same,
    warmUp: [
      { samples: 10, ms: 2 },
      { samples: 100, ms: 1 },
    ],
  });
  near(flat.predictMs(1000), 2, 1e-9);
  const steep = new LatencyModel({
    capacityOf: same,
    warmUp: [
      { samples: 10, ms: 1 },
      { samples: 100, ms: 50 },
    ],
  });
  near(steep.predictMs(200), 100, 1e-9);
  assert.equal(steep.predictMs(0), 0);
});

test('batches make the line anew, with and without a warm-up', () => {
  const truth = (samples: number) => 0.5 + 0.001 * samples;
  for (const prior of [[], warmUp]) {
    const model = new LatencyModel({ capacityOf: same, warmUp: prior });
    observe(model, 300, truth);
    for (const samples of [270, 2700, 6480]) near(model.predictMs(samples), truth(samples), 0.02);
    near(model.slaSamples(3), 2500, 0.03);
  }
});

test('where all batches have one size, their level counts and the warm-up gives the slope', () => {
  const model = new LatencyModel({ capacityOf: same, warmUp });
  for (let i = 0; i < 300; i++) model.observe(270, 2 * line(270));
  near(model.predictMs(270), 2 * line(270), 0.02);
  near(model.predictMs(6000), 2 * line(6000), 0.05);
});

test('where batches hardly differ in size, their noise makes no slope', () => {
  const random = new Random(SEED);
  const model = new LatencyModel({ capacityOf: same, warmUp });
  for (let i = 0; i < 2000; i++) {
    const samples = random.integer(268, 272);
    model.observe(samples, line(samples) * (0.9 + 0.2 * random.next()));
    if (i > 100) near(model.predictMs(6000), 1.1 * line(6000), 0.3);
  }
});

test('one line through one size and no warm-up errs by 2 at most, for any larger batch with a fixed cost', () => {
  const model = new LatencyModel({ capacityOf: same });
  for (let i = 0; i < 300; i++) model.observe(270, 1);
  near(model.predictMs(270), 1, 1e-6);
  near(model.predictMs(540), 1.5, 0.05);
});

test('some of the batches take longer than predicted: as many as the quantile says', () => {
  for (const quantile of [0.5, 0.9, 0.95]) {
    const random = new Random(SEED);
    const model = new LatencyModel({ capacityOf: same, quantile, warmUp });
    const msOf = (samples: number) => line(samples) * (1 + 0.4 * random.next());
    observe(model, 600, msOf);
    let within = 0;
    for (let i = 0; i < 4000; i++) {
      const samples = 270 * random.integer(1, 24);
      const predicted = model.predictMs(samples);
      const ms = msOf(samples);
      if (ms <= predicted) within++;
      model.observe(samples, ms);
    }
    assert.ok(Math.abs(within / 4000 - quantile) < 0.05, `${within / 4000} of ${quantile}`);
  }
});

test('a slow batch changes nothing, nor do a few in a hundred', () => {
  const quiet = new LatencyModel({ capacityOf: same, warmUp });
  const model = new LatencyModel({ capacityOf: same, warmUp });
  for (const [i, slow] of [
    [0, 60],
    [1, 250],
  ] as const) {
    const random = new Random(SEED + i);
    observe(quiet, slow, line, random);
    observe(model, slow, line, new Random(SEED + i));
    model.observe(2700, 500);
    quiet.observe(2700, line(2700));
  }
  for (const samples of [270, 2700, 6480]) near(model.predictMs(samples), quiet.predictMs(samples), 0.02);
  const random = new Random(SEED);
  observe(model, 1000, (samples) => line(samples) * (random.next() < 0.02 ? 30 : 1));
  for (const samples of [270, 2700, 6480]) near(model.predictMs(samples), line(samples), 0.05);
});

test('the first batch may be slow', () => {
  const model = new LatencyModel({ capacityOf: same, warmUp });
  model.observe(270, 100);
  near(model.predictMs(270), line(270), 0.1);
  near(model.predictMs(6000), line(6000), 0.1);
  observe(model, 40, line);
  near(model.predictMs(270), line(270), 0.05);
});

test('a change of level is followed within some 50 batches, a slow one within the window', () => {
  for (const by of [3, 1.4, 1 / 1.4, 1 / 3]) {
    const model = new LatencyModel({ capacityOf: same, warmUp });
    const middle = new LatencyModel({ capacityOf: same, quantile: 0.5, warmUp });
    for (const each of [model, middle]) {
      observe(each, 1000, line);
      observe(each, 52, (samples) => by * line(samples));
    }
    near(middle.predictMs(2700), by * line(2700), 0.05);
    for (const samples of [270, 2700, 6480])
      near(model.predictMs(samples), by * line(samples), 0.05, `${by}`);
  }
  for (const by of [1.2, 1 / 1.2]) {
    const model = new LatencyModel({ capacityOf: same, warmUp });
    observe(model, 1000, line);
    observe(model, 272, (samples) => by * line(samples));
    for (const samples of [270, 2700, 6480])
      near(model.predictMs(samples), by * line(samples), 0.02, `${by}`);
  }
  const model = new LatencyModel({ capacityOf: same, warmUp });
  observe(model, 1000, line);
  let drift = 1;
  observe(model, 700, (samples) => {
    drift *= 1.001;
    return drift * line(samples);
  });
  near(model.predictMs(2700), drift * line(2700), 0.15);
});

test('a class with a level of its own has it, once enough of its batches ran', () => {
  const capacityOf = (samples: number) => 2 ** Math.ceil(Math.log2(samples));
  // The program for 1025 to 2048 samples takes half as long again as its neighbours.
  const truth = (samples: number) => line(samples) * (capacityOf(samples) === 2048 ? 1.5 : 1);
  const model = new LatencyModel({ capacityOf, warmUp });
  const random = new Random(SEED);
  for (let i = 0; i < 1000; i++) {
    const samples = 270 * random.integer(1, 12);
    model.observe(samples, truth(samples));
  }
  near(model.predictMs(1500), truth(1500), 0.03);
  near(model.predictMs(1000), truth(1000), 0.03);
  // Larger ones never take less than smaller ones.
  near(model.predictMs(2049), truth(2048), 0.03);
  near(model.predictMs(3000), truth(2048), 0.03);
  const fit = model.fits().find(({ capacity }) => capacity === 2048);
  assert.ok(fit !== undefined);
  near(fit.a + fit.b * 1500, truth(1500), 0.03);
  assert.ok(fit.observations >= 24);
  assert.equal(
    model.fits().reduce((sum, { observations }) => sum + observations, 0),
    256,
  );
});

test('a class below the line has its level too: sizes that no program has do not stand before it', () => {
  const capacityOf = (samples: number) => 2 ** Math.ceil(Math.log2(samples));
  const truth = (samples: number) => line(samples) / ([1024, 2048].includes(capacityOf(samples)) ? 1.5 : 1);
  const model = new LatencyModel({ capacityOf, warmUp });
  observe(model, 1000, truth);
  for (const samples of [1030, 2000])
    near(model.predictMs(samples), Math.max(truth(512), truth(samples)), 0.2);
});

test('predictions never fall as batches grow', () => {
  const random = new Random(SEED);
  const model = new LatencyModel({ capacityOf: same, warmUp });
  observe(model, 777, (samples) => random.next() * line(samples % 2000), random);
  let before = 0;
  for (let samples = 0; samples < 20_000; samples += 7) {
    const ms = model.predictMs(samples);
    assert.ok(ms >= before, `${samples}`);
    before = ms;
  }
});

test('batches that take no time, or ever less with their size, make no negative line', () => {
  const still = new LatencyModel({ capacityOf: same });
  observe(still, 100, () => 0);
  assert.ok(still.predictMs(1000) < 1e-3 && still.predictMs(1000) >= 0);
  observe(still, 300, line);
  near(still.predictMs(2700), line(2700), 0.05);
  const falling = new LatencyModel({ capacityOf: same, warmUp });
  observe(falling, 300, (samples) => 10 - samples / 1000);
  assert.ok(falling.fits().every(({ a, b }) => a >= 0 && b >= 0));
  const steep = new LatencyModel({ capacityOf: same });
  observe(steep, 300, (samples) => (samples / 1000) ** 2);
  assert.ok(steep.fits().every(({ a, b }) => a >= 0 && b >= 0));
});

test('the version grows when predictions may have changed, and only then', () => {
  const model = new LatencyModel({ capacityOf: same, warmUp });
  observe(model, 64, line);
  const [version, before] = [model.version, model.predictMs(2700)];
  for (let i = 0; i < 15; i++) model.observe(2700, 9);
  assert.equal(model.version, version);
  assert.equal(model.predictMs(2700), before);
  model.observe(2700, 9);
  assert.ok(model.version > version);
});

test('what is no time, no size or no quantile is refused', () => {
  const model = new LatencyModel({ capacityOf: same });
  for (const [samples, ms] of [
    [Number.NaN, 1],
    [-1, 1],
    [1, Number.NaN],
    [1, -1],
    [1, Number.POSITIVE_INFINITY],
  ] as const) {
    assert.throws(() => model.observe(samples, ms), RangeError);
    assert.throws(() => new LatencyModel({ capacityOf: same, warmUp: [{ samples, ms }] }), RangeError);
  }
  for (const quantile of [0, 1, Number.NaN])
    assert.throws(() => new LatencyModel({ capacityOf: same, quantile }), RangeError);
});

test('largestWithin finds the last size of a step anywhere', () => {
  for (const most of [1, 2, 7, 1000])
    for (let last = 0; last <= most; last++)
      assert.equal(
        largestWithin((samples) => (samples <= last ? 1 : 2), 1, most),
        last,
      );
});
