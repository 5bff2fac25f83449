/** Gauges and counts that the main thread knows, as a collector of the registry gives them. */
import type { ClassFit } from '../batching/latency-model.ts';
import { type Collected, collected } from './registry.ts';

/** Of the process. `startedAt`: ms since 1970. */
export function processGauges(of: {
  readonly version: string;
  readonly node: string;
  readonly startedAt: number;
}): Collected[] {
  return [
    collected('build', { version: of.version, node: of.node }, 1),
    collected('started', {}, of.startedAt / 1000),
  ];
}

/** Of a version of a model. `loadedAt`: ms since 1970. */
export function modelGauges(model: string, version: string, loadedAt: number): Collected[] {
  return [
    collected('modelInfo', { model, version }, 1),
    collected('modelLoaded', { model, version }, loadedAt / 1000),
  ];
}

/** Of the patches of a version that is served. `writtenAt`: of the last one, ms since 1970. */
export function patchGauges(
  model: string,
  version: string,
  sequence: number,
  writtenAt: number | undefined,
): Collected[] {
  return [
    collected('patchNumber', { model, version }, sequence),
    ...(writtenAt === undefined ? [] : [collected('patchWritten', { model, version }, writtenAt / 1000)]),
  ];
}

/** Of the loads of a model. */
export function loadCounts(model: string, ok: number, failed: number): Collected[] {
  return [
    collected('modelLoads', { model, outcome: 'ok' }, ok),
    collected('modelLoads', { model, outcome: 'failed' }, failed),
  ];
}

/** How long batches of an instance are expected to take, by class of capacity. */
export function fitGauges(model: string, instance: string, fits: readonly ClassFit[]): Collected[] {
  return fits.flatMap(({ capacity, a, b }) => {
    const labels = { model, instance, capacity: String(capacity) };
    return [collected('fitFixed', labels, a / 1000), collected('fitPerSample', labels, b / 1000)];
  });
}

/** Of the memory of slots. */
export function slotGauges(of: {
  readonly usedBytes: number;
  readonly capacityBytes: number;
  readonly waiting: number;
}): Collected[] {
  return [
    collected('slotBytes', {}, of.usedBytes),
    collected('slotCapacity', {}, of.capacityBytes),
    collected('slotsWaiting', {}, of.waiting),
  ];
}

/** Of a device's memory. */
export function deviceGauges(of: {
  readonly device: string;
  readonly freeBytes: number;
  readonly totalBytes: number;
}): Collected[] {
  const { device, freeBytes, totalBytes } = of;
  return [collected('deviceFree', { device }, freeBytes), collected('deviceTotal', { device }, totalBytes)];
}
