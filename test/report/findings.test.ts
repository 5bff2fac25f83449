/** Every rule speaks on figures past its threshold, says the opposite or nothing on opposite ones, and cites them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { plainRows } from '../../src/bench/comparison.ts';
import type { BenchResults, EmbeddingRow } from '../../src/bench/results.ts';
import type { Characterization } from '../../src/characterize/results.ts';
import { benchFigures } from '../../src/report/bench-figures.ts';
import { BENCH_RULES, benchFindings } from '../../src/report/bench-findings.ts';
import { characterizeFigures } from '../../src/report/characterize-figures.ts';
import { CHARACTERIZE_RULES, characterizeFindings } from '../../src/report/characterize-findings.ts';
import { recordedBench, recordedCharacterization, smallCharacterization } from './results.ts';

const RECORDED = [
  'h200-paper',
  'h200-paper-traces',
  'h200-paper-sweeps',
  'cpu-zen5-quick',
  'cpu-zen5-traces',
];

/** What one rule says of recorded results after a change. */
function said(rule: string, name: string, change: (results: BenchResults) => void = () => {}): string[] {
  const results = recordedBench(`${name}.json`);
  change(results);
  return benchFindings(results)
    .filter((finding) => finding.rule === rule)
    .map(({ text }) => text);
}

const scale = (row: EmbeddingRow, factor: number) => {
  row.timing.medianMs *= factor;
  row.speedup /= factor;
  if (row.launch !== undefined) row.launch.medianUs *= factor;
};

const own = ({ embedding }: BenchResults) =>
  embedding.filter(({ implementation }) => implementation === 'hotrow');

for (const name of RECORDED) {
  test(`findings of ${name} cite figures and charts that are there, and every cited number is told`, () => {
    const results = recordedBench(`${name}.json`);
    const figures = new Set(benchFigures(results).map(({ id }) => id));
    const findings = benchFindings(results);
    assert.ok(findings.length > 2);
    for (const { figure, cites, rule } of findings) {
      assert.ok(figures.has(figure), `${rule} refers to ${figure}`);
      assert.ok(cites.length > 0);
      for (const { value } of cites) assert.match(value, /\d/);
    }
  });
}

test('findings of h200-counters name every limit that its kernels meet, and figures that are there', () => {
  const results = recordedCharacterization('h200-counters.json');
  const figures = new Set(characterizeFigures(results).map(({ id }) => id));
  const findings = characterizeFindings(results);
  for (const { figure, cites } of findings) {
    assert.ok(figures.has(figure), figure);
    for (const { value } of cites) assert.match(value, /\d/);
  }
  const said = findings.map(({ text }) => text).join('\n');
  for (const { limiter } of results.counters) assert.ok(said.includes(`Bound by ${limiter}`), limiter);
});

test('rules have names of their own and reasons', () => {
  const rules = [...BENCH_RULES, ...CHARACTERIZE_RULES];
  assert.equal(new Set(rules.map(({ name }) => name)).size, rules.length);
  for (const { reason } of rules) assert.ok(reason.length > 20);
});

test('results without rows have no findings', () => {
  assert.deepEqual(benchFindings({ ...recordedBench('h200-paper.json'), embedding: [], model: [] }), []);
  assert.deepEqual(characterizeFindings({ ...smallCharacterization(), static: [], counters: [] }), []);
});

describe('hotness-costs', () => {
  const NAME = 'hotness-costs';
  test('cold is slower', () => {
    const results = recordedBench('h200-paper.json');
    const plain = plainRows(results);
    const ratio = (plain.get('random')?.timing.medianMs ?? 0) / (plain.get('one_item')?.timing.medianMs ?? 0);
    assert.match(
      said(NAME, 'h200-paper').join(),
      new RegExp(`${ratio.toFixed(2)}× as long on random as on one_item`),
    );
  });
  test('hot is slower', () =>
    assert.match(
      said(NAME, 'h200-paper', ({ embedding }) => {
        for (const row of embedding) if (row.pattern === 'one_item') scale(row, 10);
      }).join(),
      /slower on hot lookups/,
    ));
  test('no difference', () =>
    assert.deepEqual(
      said(NAME, 'h200-paper', ({ embedding }) => {
        for (const row of embedding) row.timing.medianMs = 1;
      }),
      [],
    ));
});

describe('fastest-plan, technique-loses', () => {
  test('the fastest is named with its gain', () =>
    assert.match(
      said('fastest-plan', 'h200-paper').join('\n'),
      /fused, .* blocks of 64 is fastest on low_hot, random: 2\.3\d× \(random\) to 2\.4\d× \(low_hot\)/,
    ));
  const slowed = (factor: number) => (results: BenchResults) => {
    const plain = new Set(plainRows(results).values());
    for (const row of own(results)) {
      if (plain.has(row)) continue;
      row.speedup = 1 / factor;
    }
  };
  test('none is faster', () => {
    assert.deepEqual(said('fastest-plan', 'h200-paper', slowed(2)), [
      'No plan is measurably faster than the plain kernel on one_item, high_hot, med_hot, low_hot, random.',
    ]);
    assert.match(said('technique-loses', 'h200-paper', slowed(2)).join(), /^(\d+) of \1 plans are slower/);
  });
  test('none is slower', () => assert.deepEqual(said('technique-loses', 'h200-paper', slowed(0.5)), []));
  test('the slowest is named', () =>
    assert.match(
      said('technique-loses', 'h200-paper').join(),
      /L1DPF d2 most, at 0\.07× its speed on one_item/,
    ));
});

describe('peer', () => {
  const peerTimes =
    (factor: number) =>
    ({ embedding }: BenchResults) => {
      for (const row of embedding) if (row.implementation !== 'hotrow') row.timing.medianMs *= factor;
    };
  test('ahead', () => assert.match(said('peer', 'h200-paper').join(), /as fast as PyTorch/));
  test('behind', () =>
    assert.match(said('peer', 'h200-paper', peerTimes(0.1)).join(), /PyTorch .* is faster than every plan/));
  test('on one pattern only', () =>
    assert.match(said('peer', 'h200-paper', peerTimes(0.2)).join(), /it depends/));
  test('without a peer', () => assert.deepEqual(said('peer', 'h200-paper-sweeps'), []));
});

describe('register-cap', () => {
  const capGain = (gain: number) => (results: BenchResults) => {
    const plain = plainRows(results);
    for (const row of own(results)) {
      const launch = plain.get(row.pattern)?.launch;
      if (row.variant === 'standard + OptMT 64 warps' && row.launch !== undefined && launch !== undefined)
        row.launch.medianUs = launch.medianUs / gain;
    }
  };
  test('brings something', () =>
    assert.match(said('register-cap', 'h200-paper', capGain(1.4)).join(), /alone brings up to 1\.40×/));
  test('brings nothing', () =>
    assert.match(
      said('register-cap', 'h200-paper', capGain(1)).join(),
      /brings nothing: at 18 registers .* 100 %/,
    ));
  test('no such technique', () => assert.deepEqual(said('register-cap', 'cpu-zen5-quick'), []));
});

describe('pinning-pays', () => {
  const pinTimes =
    (us: number, factor: number) =>
    ({ embedding }: BenchResults) => {
      for (const row of embedding) {
        if (row.pin === undefined || row.launch === undefined) continue;
        row.pin.medianUs = us;
        row.launch.medianUs *= factor;
      }
    };
  test('not with its own time', () =>
    assert.match(said('pinning-pays', 'h200-paper').join(), /does not pay/));
  test('when it takes no time and halves the kernel', () =>
    assert.match(
      said('pinning-pays', 'h200-paper', pinTimes(0, 0.5)).join(),
      /^Pinning pays .* up to 2\.\d/,
    ));
  test('not measured', () => assert.deepEqual(said('pinning-pays', 'cpu-zen5-quick'), []));
});

describe('near-limit', () => {
  const shares = (share: number) => (results: BenchResults) => {
    for (const row of own(results)) row.limitShare = share;
  };
  test('at the limit', () =>
    assert.match(said('near-limit', 'h200-paper', shares(0.93)).join(), /stand at the limit.*93 %/));
  test('room', () =>
    assert.match(said('near-limit', 'h200-paper', shares(0.4)).join(), /stay below the limit.*40 %/));
  test('past the limit', () =>
    assert.match(said('near-limit', 'h200-paper', shares(3)).join(), /go past the limit.*300 %/));
  test('not recorded', () => {
    const without = (results: BenchResults) => {
      for (const row of own(results)) delete row.limitShare;
    };
    assert.deepEqual(said('near-limit', 'h200-paper', without), []);
  });
});

describe('sweep-optimum', () => {
  test('the best of each sweep', () => {
    const texts = said('sweep-optimum', 'h200-paper-sweeps');
    assert.equal(texts.length, 3);
    assert.match(texts.join('\n'), /prefetch brings most as pipelined RPF d3 on med_hot: 1\.8/);
  });
  test('a sweep that brings nothing', () =>
    assert.match(
      said('sweep-optimum', 'h200-paper-sweeps', ({ embedding }) => {
        for (const { launch, pin } of embedding) {
          if (launch !== undefined) launch.medianUs = 50;
          if (pin !== undefined) pin.medianUs = 1;
        }
      }).join('\n'),
      /prefetch brings nothing/,
    ));
  test('no sweep', () => assert.deepEqual(said('sweep-optimum', 'h200-paper'), []));
});

describe('embedding-share, model-hotness', () => {
  test('the bottleneck', () =>
    assert.match(said('embedding-share', 'cpu-zen5-quick').join(), /is the bottleneck .*: 64 %/));
  test('not the bottleneck', () =>
    assert.match(
      said('embedding-share', 'cpu-zen5-quick', ({ model }) => {
        for (const row of model) row.embeddingShare = (row.embeddingShare ?? 0) / 2;
      }).join(),
      /is not the bottleneck .* at most 32 %/,
    ));
  test('cold lookups slow the model down, and tuning helps', () => {
    const [plain, tuned] = said('model-hotness', 'cpu-zen5-quick');
    assert.match(plain ?? '', /the plain kernel.*2\.62× as long on random as on one_item/);
    assert.match(tuned ?? '', /prefetch.*1\.85× as long/);
  });
  test('they do not', () =>
    assert.match(
      said('model-hotness', 'cpu-zen5-quick', ({ model }) => {
        for (const row of model) row.timing.medianMs = 5;
      }).join(),
      /does not slow down/,
    ));
  test('no model', () => assert.deepEqual(said('model-hotness', 'h200-paper'), []));
});

describe('characterization', () => {
  const characterSaid = (rule: string, change: (results: Characterization) => void = () => {}) => {
    const results = smallCharacterization();
    change(results);
    const figures = new Set(characterizeFigures(results).map(({ id }) => id));
    const found = characterizeFindings(results).filter((finding) => finding.rule === rule);
    for (const { figure } of found) assert.ok(figures.has(figure));
    return found.map(({ text }) => text);
  };
  const counters = (change: Partial<Characterization['counters'][number]>) => (results: Characterization) => {
    for (const row of results.counters) Object.assign(row, change);
  };
  const kernels = (change: Partial<Characterization['static'][number]>) => (results: Characterization) => {
    for (const row of results.static) Object.assign(row, change);
  };
  test('bound-by', () => {
    assert.deepEqual(characterSaid('bound-by'), [
      'Bound by memory latency: 2 of 4 measured kernels (one_item, random). More loads in flight of each warp would hide it.',
      'Bound by DRAM bandwidth: 2 of 4 measured kernels (one_item, random). Fewer bytes from memory would make them faster.',
    ]);
    assert.deepEqual(characterSaid('bound-by', counters({ limiter: 'a limit of a later version' })), [
      'Bound by a limit of a later version: 4 of 4 measured kernels (one_item, random).',
    ]);
  });
  test('techniques-move', () => {
    assert.deepEqual(characterSaid('techniques-move'), [
      "RPF d6 is fastest on one_item, random: 1.69× (one_item) the plain kernel's speed. It is bound by DRAM bandwidth; the plain kernel by memory latency.",
    ]);
    const change = (results: Characterization) => {
      for (const row of results.counters.slice(0, 2)) row.limiter = 'L1 bandwidth';
    };
    assert.match(
      characterSaid('techniques-move', change).join(),
      /by L1 bandwidth \(one_item\), DRAM bandwidth \(random\); the plain kernel by L1 bandwidth \(one_item\), memory latency \(random\)/,
    );
    assert.deepEqual(characterSaid('techniques-move', counters({ timeUs: 50 })), []);
    const withoutPlain = (results: Characterization) => {
      results.counters = results.counters.filter(({ variant }) => variant !== 'standard');
    };
    assert.deepEqual(characterSaid('techniques-move', withoutPlain), []);
  });
  test('warps-lost', () => {
    assert.match(characterSaid('warps-lost').join(), /RPF d6 on one_item keeps only 69 %/);
    assert.deepEqual(characterSaid('warps-lost', counters({ achievedWarps: 60 })), []);
  });
  test('registers-limit', () => {
    assert.match(characterSaid('registers-limit').join(), /1 of 3/);
    assert.deepEqual(characterSaid('registers-limit', kernels({ occupancy: 1 })), []);
    assert.deepEqual(characterSaid('registers-limit', kernels({ limiter: 'shared memory' })), []);
  });
  test('spills', () => {
    assert.match(characterSaid('spills').join(), /^1 of 3 .*RPF d16 most/);
    assert.deepEqual(characterSaid('spills', kernels({ spillBytes: 0 })), []);
  });
});
