/** What is worked out once for the bags of a batch, and found again faster than it would be named in full. */
import type { CudaPlan } from '../../../plan/plan.ts';
import type { BagKinds } from './bag-kinds.ts';

/** By identity of plan and kinds, which stay the same from batch to batch, then by what the call asks for. */
export class KnownByKinds<T> {
  readonly #known = new WeakMap<CudaPlan, WeakMap<BagKinds, Map<string, T>>>();

  /** What there is for one plan and kinds, by call. */
  of(plan: CudaPlan, kinds: BagKinds): Map<string, T> {
    const ofPlan = this.#known.get(plan) ?? new WeakMap<BagKinds, Map<string, T>>();
    this.#known.set(plan, ofPlan);
    const ofKinds = ofPlan.get(kinds) ?? new Map<string, T>();
    ofPlan.set(kinds, ofKinds);
    return ofKinds;
  }
}
