/** What an engine thread and the main thread of a server say to each other. */
import type { MemoryUse } from '../../backend/backend.ts';
import type { ModelInputs } from '../../model/inputs.ts';
import type { NamedOutput } from '../../model/prediction.ts';
import type { ClassFit, Measured } from '../batching/latency-model.ts';
import type { SharedMetrics } from '../metrics/metrics-block.ts';
import type { PatchedTable } from '../patches/row-patch.ts';
import type { RecordShape } from '../records/record-model.ts';
import type { Patched } from './apply-patch.ts';
import type { ArenaPlace } from './arena.ts';
import type { ModelSource, Placing } from './model-source.ts';
import type { RingMemory } from './ring.ts';
import type { SentError } from './thread-errors.ts';

/** How requests become batches. */
export interface BatchingLimits {
  /** The time that batches are made for; half of it is the longest batch. */
  readonly slaMs: number;
  /** Samples of a batch; undefined: as the device likes it. */
  readonly mostSamples?: number;
  /** Samples that wait. */
  readonly queueSamples: number;
}

/** The queues between an engine and one thread that receives requests. */
export interface Line {
  readonly requests: RingMemory;
  readonly answers: RingMemory;
  /** Of the thread that receives requests. */
  readonly bell: SharedArrayBuffer;
}

/** A sample of the traffic, kept for tuning. */
export interface TrafficRecording {
  readonly folder: string;
  /** One request of so many is a candidate. */
  readonly every: number;
  readonly diskBytes: number;
}

/** How long batches take, of models that are alike. */
export interface KnownTimes {
  /** What they depend on: the same for a model that has other weights only. */
  readonly likeness: string;
  readonly measured: readonly Measured[];
}

/** What a model in an engine thread is started with. */
export interface EngineStart {
  readonly model: string;
  /** Its name among the copies of the model. */
  readonly instance: string;
  readonly recording: TrafficRecording | undefined;
  /** Whether another copy still writes to the folder: `record` says when it does not. */
  readonly recordsLater: boolean;
  readonly source: ModelSource;
  readonly placing: Placing;
  readonly limits: BatchingLimits;
  /** Of the model whose place it takes; undefined: it takes none. */
  readonly known: KnownTimes | undefined;
  readonly bell: SharedArrayBuffer;
  readonly lines: readonly Line[];
  readonly version: string;
  /** The folder of its patches; undefined: it takes none. */
  readonly patches: string | undefined;
  /** How long it polls after there was something to do; undefined: as device and machine suggest. */
  readonly pollMs: number | undefined;
  /** Threads of the server that may poll. */
  readonly pollers: number;
  /** int32 [1]: 1 when requests are clients', and count. */
  readonly counts: SharedArrayBuffer;
}

/** What an engine says of its model. */
export interface EngineReady {
  readonly device: string;
  readonly precision: string;
  readonly known: KnownTimes;
  readonly plan: string;
  /** Whether it keeps hot rows near the processor, and whether any plan for the device could. */
  readonly pinsRows: boolean;
  readonly canPinRows: boolean;
  readonly notes: readonly string[];
  readonly shape: RecordShape;
  readonly inputs: ModelInputs;
  readonly tableRows: readonly number[];
  readonly outputs: readonly NamedOutput[];
  readonly metrics: SharedMetrics;
  /** How long it polls after there was something to do. */
  readonly pollMs: number;
  /** What patches must fit. */
  readonly tables: readonly PatchedTable[];
  /** What of them it has. */
  readonly patched: Patched;
}

/** A model whose weights are to take the place of an engine's. */
export interface OverwritingModel {
  readonly source: ModelSource;
  readonly version: string;
  readonly patches: string | undefined;
}

/** To the model that an engine thread has. */
export type ToModel =
  | { readonly kind: 'begin'; readonly arenas: readonly ArenaPlace[] }
  /** Applies a patch between two batches: `patched` is the answer, in order. */
  | { readonly kind: 'patch'; readonly bytes: Uint8Array; readonly name: string }
  /** Makes ready to write another model's weights over its own: `ready-to-overwrite` is the answer. It goes on answering requests. */
  | { readonly kind: 'prepare-overwrite'; readonly by: OverwritingModel }
  /** Writes them, when no request comes any more: `overwritten` is the answer. */
  | { readonly kind: 'overwrite' }
  /** Traffic is recorded from now on. */
  | { readonly kind: 'record' }
  /** It goes when it has answered all that it was sent: `stopped` is the answer. */
  | { readonly kind: 'stop' };
export type ToEngine =
  /** Has a model from now on: it had none. */
  | { readonly kind: 'start'; readonly start: EngineStart }
  | ToModel
  /** Ends: it has no model. */
  | { readonly kind: 'end' };
export type FromEngine =
  /** `error`: why they cannot be written; nothing has changed. */
  | { readonly kind: 'ready-to-overwrite'; readonly error?: SentError }
  /** Where it fails, so does the engine. */
  | { readonly kind: 'overwritten'; readonly ready: EngineReady }
  /** `error`: nothing of the patch is there. */
  | { readonly kind: 'patched'; readonly error?: SentError }
  | { readonly kind: 'progress'; readonly text: string }
  | { readonly kind: 'ready'; readonly ready: EngineReady }
  /** Nothing is left of its model. */
  | { readonly kind: 'stopped' }
  | { readonly kind: 'failed'; readonly error: SentError }
  | { readonly kind: 'error'; readonly error: SentError }
  /** From time to time: how long batches are expected to take, and the memory of its device where that has its own. */
  | {
      readonly kind: 'state';
      readonly fits: readonly ClassFit[];
      /** As a warm-up measures them. */
      readonly usual: readonly Measured[];
      readonly memory?: DeviceMemoryUse;
    };

/** Memory of a device, of all processes together. */
export interface DeviceMemoryUse extends MemoryUse {
  /** As `--device` takes it. */
  readonly device: string;
}
