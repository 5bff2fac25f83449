/** What the server's page is told each second: the JSON of an event of GET /v2/events. Unknown figures are null. */
import type { Outcome, Phase, Protocol } from '../metrics/metric-list.ts';
import type { RepositoryEntry } from '../protocol/documents.ts';

/** Times of requests, s. */
export interface Quantiles {
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
}

/** What happened to a model in a while. */
export interface Span {
  /** How long it was, s. */
  readonly seconds: number;
  /** Requests that ended, by what became of them. */
  readonly requests: Readonly<Record<Outcome, number>>;
  /** Samples that were scored. */
  readonly samples: number;
  readonly batches: number;
  /** Of the time of all copies, the share in which batches were merged, copied and computed. */
  readonly busy: number;
  /** From arrival to answer, of requests that were answered. */
  readonly latency: Quantiles | null;
  /** Mean s that a request spent in each phase; `other`: what is left, receiving and reading it. */
  readonly phases: Readonly<Record<Phase | 'other', number>> | null;
  /** Means of a batch. */
  readonly batch: { readonly samples: number; readonly requests: number } | null;
}

/** Whether a model's plan fits its traffic. */
export interface PlanFit {
  readonly verdict: 'unknown' | 'fits' | 'tune';
  /** For people. */
  readonly text: string;
}

export interface LiveModel extends RepositoryEntry {
  /** Null: it is not served. */
  readonly served: ServedHow | null;
  /** ms since 1970. */
  readonly loadedAt: number | null;
  readonly loads: { readonly ok: number; readonly failed: number };
  /** The last row patch that it has; `writtenAt`: ms since 1970. */
  readonly patch: { readonly number: number; readonly writtenAt: number | null } | null;
  /** Since the server started. */
  readonly total: Span;
  /** Lately: RECENT_MS at most. */
  readonly recent: Span | null;
  /** What waits for an engine now. */
  readonly queue: { readonly requests: number; readonly samples: number };
  /** Shares of lookups that go to hot rows. */
  readonly coverage: {
    readonly share: number | null;
    readonly tables: readonly { readonly table: string; readonly share: number }[];
  };
  readonly fit: PlanFit;
}

/** How a model is served. */
export interface ServedHow {
  readonly device: string;
  readonly precision: string;
  /** What its plan does, and where it comes from. */
  readonly plan: string;
  /** Whether the plan keeps hot rows near the processor. */
  readonly pinsRows: boolean;
  /** Whether any plan for the device could. */
  readonly canPinRows: boolean;
  readonly copies: number;
}

export interface LiveServer {
  /** Of Hotrow. */
  readonly version: string;
  /** ms since 1970. */
  readonly startedAt: number;
  readonly isDraining: boolean;
  readonly connections: Readonly<Record<Protocol, number>>;
  /** Memory of requests. */
  readonly slots: { readonly usedBytes: number; readonly capacityBytes: number; readonly waiting: number };
  /** Since the start. */
  readonly receivedBytes: number;
  readonly sentBytes: number;
  /** Requests that named no model of the server. */
  readonly strays: number;
  readonly devices: readonly {
    readonly device: string;
    readonly freeBytes: number;
    readonly totalBytes: number;
  }[];
}

export interface LiveEvent {
  /** ms since 1970. */
  readonly at: number;
  readonly server: LiveServer;
  readonly models: readonly LiveModel[];
}

/** What `recent` spans at most. */
export const RECENT_MS = 10_000;
/** How often there is an event. */
export const EVENT_MS = 1000;
