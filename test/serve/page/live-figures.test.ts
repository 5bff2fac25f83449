/** The page's figures, of readings whose figures are known. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RECENT_MS } from '../../../src/serve/page/live-event.ts';
import { LiveFigures, type LiveReading } from '../../../src/serve/page/live-figures.ts';
import { STRANGE, someMetrics } from '../metrics/some-metrics.ts';

const STARTED = 1_700_000_000_000;
const SERVED = {
  device: 'cpu: a processor',
  precision: 'float32',
  plan: 'standard',
  pinsRows: false,
  canPinRows: false,
  copies: 2,
};

/** Without what sums of fractions add. */
const rounded = (value: unknown): unknown =>
  JSON.parse(JSON.stringify(value), (_, own) =>
    typeof own === 'number' ? Number(own.toPrecision(10)) : own,
  );

function reader(model = 'm') {
  const metrics = someMetrics(model);
  const reading = (at: number): LiveReading => ({
    at: STARTED + at,
    figures: metrics.registry.read(),
    server: { version: '0.1.0', startedAt: STARTED, isDraining: false },
    models: [{ name: model, version: '1', state: 'READY', reason: '', served: SERVED }],
  });
  return { ...metrics, reading };
}

test('the first event has what was counted since the start, and nothing recent', () => {
  const { reading } = reader();
  const { at, server, models } = new LiveFigures().next(reading(10_000));
  assert.equal(at, STARTED + 10_000);
  const [model, ...others] = models;
  assert.deepEqual(others, []);
  assert.equal(model?.recent, null);
  const total = {
    seconds: 10,
    requests: {
      ok: 2,
      bad_request: 0,
      queue_full: 1,
      deadline_unmeetable: 0,
      not_ready: 0,
      dropped_late: 0,
      cancelled: 0,
      internal: 0,
    },
    samples: 540,
    batches: 1,
    // 1.375 ms of two copies.
    busy: 0.001375 / 20,
    // 2 ms lies in (1.92, 2.24], 4 ms in (3.84, 4.48].
    latency: {
      p50: 0.00192 + 0.00032 * 0.5 * 2,
      p99: 0.00384 + 0.00064 * 0.98,
      p999: 0.00384 + 0.00064 * 0.998,
    },
    phases: {
      queue: 0.00075,
      merge: 0.00025,
      copy: 0.000125,
      compute: 0.001,
      answer: 0.0000625,
      other: 0.003 - 0.0021875,
    },
    batch: { samples: 540, requests: 2 },
  };
  assert.deepEqual(rounded(model?.total), rounded(total));
  assert.deepEqual(model?.queue, { requests: 3, samples: 810 });
  assert.deepEqual(model?.coverage, { share: 0.5, tables: [{ table: 'ads', share: 0.75 }] });
  assert.deepEqual(model?.patch, { number: 7, writtenAt: 1_700_000_000_125 });
  assert.deepEqual(model?.loads, { ok: 1, failed: 0 });
  assert.equal(model?.loadedAt, 1_700_000_000_250);
  assert.equal(model?.fit.verdict, 'fits');
  assert.deepEqual(server, {
    version: '0.1.0',
    startedAt: STARTED,
    isDraining: false,
    connections: { http: 2, grpc: 0 },
    slots: { usedBytes: 100, capacityBytes: 1000, waiting: 0 },
    receivedBytes: 3048,
    sentBytes: 12,
    strays: 1,
    devices: [{ device: 'cuda:0', freeBytes: 5e9, totalBytes: 150e9 }],
  });
});

test('what is recent is what was counted between two readings', () => {
  const { reading, requests, engine } = reader();
  const figures = new LiveFigures();
  figures.next(reading(1000));
  for (let i = 0; i < 99; i++) requests[0].answered('http', 1, 0.25);
  requests[1].answered('grpc', 100, 0.25);
  requests[1].failed('http', 'cancelled', 5);
  engine.ran({ samples: 10, requests: 100, mergeMs: 0, copyMs: 0, computeMs: 500 }, STARTED);
  const recent = figures.next(reading(3000)).models[0]?.recent;
  assert.equal(recent?.seconds, 2);
  assert.deepEqual([recent?.requests.ok, recent?.requests.cancelled], [100, 1]);
  assert.deepEqual([recent?.samples, recent?.batches], [10, 1]);
  assert.deepEqual(recent?.batch, { samples: 10, requests: 100 });
  assert.equal(recent?.busy, 0.125);
  // 1 ms lies in (0.96, 1.12], 100 ms in (92.16, 102.4].
  assert.ok(Math.abs((recent?.latency?.p50 ?? 0) - (0.00096 + (0.00016 * 50) / 99)) < 1e-12);
  assert.ok(Math.abs((recent?.latency?.p999 ?? 0) - (0.08192 + 0.02048 * 0.9)) < 1e-9);
  assert.equal(rounded(recent?.phases?.answer), 0.00025);
  assert.equal(recent?.phases?.queue, 0);
});

test('where nothing came lately, there are no times', () => {
  const { reading } = reader();
  const figures = new LiveFigures();
  figures.next(reading(1000));
  const recent = figures.next(reading(2000)).models[0]?.recent;
  assert.deepEqual([recent?.latency, recent?.phases, recent?.batch, recent?.samples], [null, null, null, 0]);
});

test('what is older is forgotten', () => {
  const { reading, requests } = reader();
  const figures = new LiveFigures();
  let at = 0;
  const next = () => figures.next(reading(at)).models[0]?.recent;
  next();
  requests[0].answered('http', 1, 0);
  for (at = 1000; at <= RECENT_MS; at += 1000) assert.equal(next()?.requests.ok, 1, `${at}`);
  const later = next();
  assert.equal(later?.requests.ok, 0);
  assert.equal(later?.seconds, RECENT_MS / 1000);
});

test('a model that has come since has all of its figures recent', () => {
  const { reading } = reader();
  const figures = new LiveFigures();
  figures.next({ ...reading(1000), figures: [], models: [] });
  const [model] = figures.next(reading(2000)).models;
  assert.equal(model?.recent?.requests.ok, 2);
  assert.equal(model?.recent?.seconds, 1);
});

test('names of others are shown as they may be, and find their figures', () => {
  const { reading } = reader(STRANGE);
  const [model] = new LiveFigures().next(reading(1000)).models;
  assert.equal(model?.name, 'a "strange"\\model\\nof\\u202e others');
  assert.equal(model?.total.requests.ok, 2);
});

test('a model that is not served has no device and no fit', () => {
  const { reading } = reader();
  const state = { name: 'gone', version: '', state: 'UNAVAILABLE', reason: 'it was unloaded' } as const;
  const event = new LiveFigures().next({ ...reading(1000), models: [{ ...state, served: null }] });
  const [model] = event.models;
  assert.deepEqual([model?.state, model?.reason, model?.served], ['UNAVAILABLE', 'it was unloaded', null]);
  assert.deepEqual([model?.total.requests.ok, model?.total.busy], [0, 0]);
  assert.equal(model?.fit.verdict, 'unknown');
  assert.equal(JSON.stringify(event).includes('NaN'), false);
});
