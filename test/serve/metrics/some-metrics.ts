/** A registry in which every metric has a figure. */
import {
  deviceGauges,
  fitGauges,
  loadCounts,
  modelGauges,
  patchGauges,
  processGauges,
  slotGauges,
} from '../../../src/serve/metrics/collectors.ts';
import { EngineMetrics, IoMetrics, RequestMetrics } from '../../../src/serve/metrics/recorders.ts';
import { MetricsRegistry } from '../../../src/serve/metrics/registry.ts';

export const STRANGE = 'a "strange"\\model\nof\u202e others';

export function someMetrics(model = STRANGE) {
  const registry = new MetricsRegistry();
  const io = [new IoMetrics('io-0'), new IoMetrics('io-1')] as const;
  const requests = [new RequestMetrics(model), new RequestMetrics(model)] as const;
  const engine = new EngineMetrics({ model, instance: '0', tables: ['ads', 'city'] });
  for (const { block } of [...io, ...requests, engine]) registry.add(block.shared);
  io[0].opened('http');
  io[0].opened('http');
  io[0].closed('http');
  io[1].opened('http');
  io[0].received('http', 2048);
  io[1].received('http', 1000);
  io[1].sent('http', 12);
  io[1].failed('http', 'bad_request');
  io[0].delays({ mean: 0.5, p50: 0.25, p99: 2, max: 4 });
  requests[0].answered('http', 2, 0.0625);
  requests[1].answered('http', 4, 0.0625);
  requests[1].failed('http', 'queue_full', 0.125);
  engine.waited(0.5);
  engine.waited(1);
  engine.ran({ samples: 540, requests: 2, mergeMs: 0.25, copyMs: 0.125, computeMs: 1 }, 1_700_000_000_500);
  engine.queued(3, 810);
  engine.coverage({ share: 0.5, tables: [{ table: 'ads', share: 0.75 }] });
  registry.collect(() => [
    ...processGauges({ version: '0.1.0', node: 'v20.20.2', startedAt: 1_700_000_000_000 }),
    ...modelGauges(model, '1', 1_700_000_000_250),
    ...loadCounts(model, 1, 0),
    ...patchGauges(model, '1', 7, 1_700_000_000_125),
    ...fitGauges(model, '0', [{ capacity: 512, a: 0.125, b: 0.0001220703125, observations: 20 }]),
    ...slotGauges({ usedBytes: 100, capacityBytes: 1000, waiting: 0 }),
    ...deviceGauges({ device: 'cuda:0', freeBytes: 5e9, totalBytes: 150e9 }),
  ]);
  return { registry, io, requests, engine };
}
