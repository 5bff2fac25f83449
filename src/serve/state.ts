/** How far a server is, in memory that all its threads see. */

/** In this order; it never goes back. */
export const PHASES = ['starting', 'ready', 'draining', 'closed'] as const;
export type Phase = (typeof PHASES)[number];

export class ServerState {
  readonly #memory: Int32Array;

  /** `memory`: 4 bytes, 0 at first. */
  constructor(memory: SharedArrayBuffer) {
    this.#memory = new Int32Array(memory);
  }

  get phase(): Phase {
    return PHASES[Atomics.load(this.#memory, 0)] ?? 'closed';
  }

  set phase(phase: Phase) {
    Atomics.store(this.#memory, 0, PHASES.indexOf(phase));
  }
}
