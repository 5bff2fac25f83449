/**
 * Every technique, in the order in which benchmarks and docs show them. Adding one means adding its file and its entry
 * here; plan checking, the benchmark, the docs and the tests walk this object.
 */
import type { Static } from 'typebox';
import { deepFrozen } from '../../checks/value.ts';
import type { DeviceKind } from '../../device.ts';
import { block } from './block.ts';
import { hugePages } from './huge-pages.ts';
import { lanes } from './lanes.ts';
import { occupancy } from './occupancy.ts';
import { pinning } from './pinning.ts';
import { prefetch } from './prefetch.ts';
import type { Technique, TechniqueOnDevice } from './technique.ts';
import { threads } from './threads.ts';
import { turns } from './turns.ts';

const registry = { occupancy, prefetch, pinning, lanes, turns, block, hugePages, threads } satisfies Record<
  string,
  Technique
>;

type Registry = typeof registry;
export type TechniqueName = keyof Registry;

type ParametersOn<T, K extends DeviceKind> = T extends { devices: Record<K, TechniqueOnDevice<infer S>> }
  ? Static<S>
  : never;

/** The techniques that a plan for a device of kind `K` switches on, each with its parameters. */
export type TechniqueSettings<K extends DeviceKind> = {
  readonly [N in TechniqueName as [ParametersOn<Registry[N], K>] extends [never] ? never : N]?: ParametersOn<
    Registry[N],
    K
  >;
};

export const TECHNIQUES: readonly Technique[] = deepFrozen(Object.values(registry));

/** A technique that exists on a kind of device, with what it is there. */
export interface AvailableTechnique {
  readonly technique: Technique;
  readonly on: TechniqueOnDevice;
}

const available = (kind: DeviceKind): readonly AvailableTechnique[] =>
  TECHNIQUES.flatMap((technique) => {
    const on = technique.devices[kind];
    return on === undefined ? [] : [{ technique, on }];
  });

/** Worked out once: every run of a plan looks through them. */
const AVAILABLE: Readonly<Record<DeviceKind, readonly AvailableTechnique[]>> = deepFrozen({
  cpu: available('cpu'),
  cuda: available('cuda'),
});

/** The techniques that exist on a kind of device. */
export function techniquesOn(kind: DeviceKind): readonly AvailableTechnique[] {
  return AVAILABLE[kind];
}
