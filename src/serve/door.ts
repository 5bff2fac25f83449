/** What the doors of a thread have in common, whatever protocol they speak. */
import type { SlotArena } from './engine/arena.ts';
import type { ModelRepository } from './protocol/repository.ts';
import type { FrontModels } from './requests/front-models.ts';
import type { InferModel } from './requests/infer-model.ts';
import type { ObservedRequest } from './requests/observed-request.ts';
import type { Security } from './security/security.ts';
import type { ServerState } from './state.ts';

/** What clients may ask of a thread. */
export interface FrontLimits {
  /** Of the body of a request. */
  readonly bodyBytes: number;
  /** Open at once by each protocol, of all threads. */
  readonly connections: number;
  /** In which hands must have been shaken, where TLS is spoken. */
  readonly handshakeMs: number;
  /** In which a request's headers, and all of it, must have come. */
  readonly headersMs: number;
  readonly requestMs: number;
  /** After which a connection without a request is closed. */
  readonly idleMs: number;
}

export const DEFAULT_FRONT_LIMITS: FrontLimits = Object.freeze({
  bodyBytes: 64 << 20,
  connections: 16_384,
  handshakeMs: 10_000,
  headersMs: 10_000,
  requestMs: 60_000,
  idleMs: 120_000,
});

/** What a door answers requests with. */
export interface DoorOptions {
  readonly state: ServerState;
  /** Of the connections that are handed to it: `handOverMemory`. */
  readonly connections: SharedArrayBuffer;
  readonly security: Security;
  readonly models: FrontModels;
  readonly arena: SlotArena;
  /** The time that requests have which do not say; undefined: all they need. */
  readonly slaMs: number | undefined;
  readonly limits: FrontLimits;
  /** JSON of Triton's statistics: GET /v2/models/stats and its like. */
  readonly statistics: (models: readonly InferModel[]) => Promise<string>;
  readonly repository: ModelRepository;
  /** Told when a request has been answered, or its client has gone. */
  readonly observe: (request: ObservedRequest) => void;
  readonly onError: (error: unknown) => void;
}
