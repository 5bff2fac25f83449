/** What all threads of a server counted, as documents: metrics for Prometheus, Triton's statistics. */
import { version } from '../version.ts';
import type { ClassFit } from './batching/latency-model.ts';
import type { Patched } from './engine/apply-patch.ts';
import type { DeviceMemoryUse } from './engine/engine-messages.ts';
import type { Document } from './http/http-thread.ts';
import {
  deviceGauges,
  fitGauges,
  loadCounts,
  modelGauges,
  patchGauges,
  processGauges,
  slotGauges,
} from './metrics/collectors.ts';
import type { SharedMetrics } from './metrics/metrics-block.ts';
import { prometheusText } from './metrics/prometheus-text.ts';
import { type Collected, type Figure, MetricsRegistry } from './metrics/registry.ts';
import { modelStatistics } from './metrics/statistics.ts';
import { tritonText } from './metrics/triton-text.ts';
import type { LiveReading } from './page/live-figures.ts';
import { statisticsJson } from './protocol/statistics.ts';

/** Slots of a thread. */
interface SlotsInUse {
  readonly used: number;
  readonly waiting: number;
}

/** Whose names metrics have: Hotrow's alone, or Triton's too for what Triton counts. */
export const METRIC_NAMES = ['hotrow', 'triton'] as const;
export type MetricNames = (typeof METRIC_NAMES)[number];

export class ServerFigures {
  readonly #names: MetricNames;
  readonly #registry = new MetricsRegistry();
  readonly #startedAt = Date.now();
  readonly #models = new Map<string, { readonly version: string; readonly loadedAt: number }>();
  readonly #loads = new Map<string, { ok: number; failed: number }>();
  readonly #patches = new Map<string, readonly Collected[]>();
  /** By model and copy: what its engine told last. */
  readonly #engines = new Map<string, readonly Collected[]>();
  readonly #slots = new Map<number, SlotsInUse>();
  /** Of all threads that receive requests. */
  slotBytes = 0;

  constructor(names: MetricNames = 'hotrow') {
    this.#names = names;
    this.#registry.collect(() => this.#gauges());
  }

  /** Reads blocks from now on. Gives what ends that: what they counted stays. */
  add(metrics: readonly SharedMetrics[]): { readonly retire: () => void } {
    const added = metrics.map((shared) => this.#registry.add(shared));
    return {
      retire: () => {
        for (const { retire } of added) retire();
      },
    };
  }

  /** A version of the model is served from now on, instead of another where there was one. */
  serves(name: string, version: string): void {
    this.#models.set(name, { version, loadedAt: Date.now() });
  }

  /** The model has so many copies: what others told last is over. */
  copies(name: string, copies: number): void {
    for (const key of this.#engines.keys()) {
      const [model, instance] = JSON.parse(key);
      if (model === name && Number(instance) >= copies) this.#engines.delete(key);
    }
  }

  /** What of its patches the model has. */
  patched(name: string, version: string, { sequence, writtenAt }: Patched): void {
    this.#patches.set(name, patchGauges(name, version, sequence, writtenAt));
  }

  /** A load of the model has ended. */
  loads(name: string, outcome: 'ok' | 'failed'): void {
    const own = this.#loads.get(name) ?? { ok: 0, failed: 0 };
    own[outcome] += 1;
    this.#loads.set(name, own);
  }

  /** The model is not served any more. */
  withdraws(name: string): void {
    this.copies(name, 0);
    this.#models.delete(name);
    this.#patches.delete(name);
  }

  /** How a copy of a model is. */
  engine(
    model: string,
    instance: string,
    { fits, memory }: { readonly fits: readonly ClassFit[]; readonly memory?: DeviceMemoryUse },
  ): void {
    this.#engines.set(JSON.stringify([model, instance]), [
      ...fitGauges(model, instance, fits),
      ...(memory === undefined ? [] : deviceGauges(memory)),
    ]);
  }

  slots(thread: number, slots: SlotsInUse): void {
    this.#slots.set(thread, slots);
  }

  document(document: Document): string {
    const figures = this.#registry.read();
    if (document.kind === 'metrics') return this.#metricsText(figures);
    const models = document.models.map((name) => ({ name, version: this.#models.get(name)?.version ?? '' }));
    return statisticsJson(modelStatistics(figures, models));
  }

  /** For the server's page. */
  reading(isDraining: boolean, models: LiveReading['models']): LiveReading {
    const server = { version, startedAt: this.#startedAt, isDraining };
    return { at: Date.now(), figures: this.#registry.read(), server, models };
  }

  #metricsText(figures: readonly Figure[]): string {
    if (this.#names === 'hotrow') return prometheusText(figures);
    const models = [...this.#models].map(([name, { version }]) => ({ name, version }));
    return tritonText(figures, models) + prometheusText(figures);
  }

  #gauges(): Collected[] {
    const slots = [...this.#slots.values()];
    return [
      ...processGauges({ version, node: process.versions.node, startedAt: this.#startedAt }),
      ...[...this.#models].flatMap(([name, model]) => modelGauges(name, model.version, model.loadedAt)),
      ...[...this.#loads].flatMap(([name, { ok, failed }]) => loadCounts(name, ok, failed)),
      ...[...this.#patches.values()].flat(),
      ...[...this.#engines.values()].flat(),
      ...slotGauges({
        usedBytes: slots.reduce((sum, { used }) => sum + used, 0),
        capacityBytes: this.slotBytes,
        waiting: slots.reduce((sum, { waiting }) => sum + waiting, 0),
      }),
    ];
  }
}
