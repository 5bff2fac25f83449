/** W3C trace context: what a request says of the trace that it belongs to. https://www.w3.org/TR/trace-context/ */

export interface TraceContext {
  /** The trace, and the caller's place in it. */
  readonly traceparent?: string | undefined;
  /** What tracing systems said to each other about it. */
  readonly tracestate?: string | undefined;
}

/** Version, trace, parent, flags; later versions may add to it. Neither trace nor parent is 0. */
const TRACEPARENT = /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?$/;
const LENGTH_OF_FIRST_VERSION = 55;
const MOST_PARENT = 100;
/** What all systems must pass on. */
const MOST_STATE = 512;

/** What of it holds to the standard, which has the rest left out: without a parent, the state means nothing. */
export function traceContext({ traceparent, tracestate }: TraceContext): TraceContext {
  if (traceparent === undefined || traceparent.length > MOST_PARENT || !TRACEPARENT.test(traceparent))
    return {};
  if (traceparent.startsWith('00-') && traceparent.length !== LENGTH_OF_FIRST_VERSION) return {};
  const isState =
    tracestate !== undefined && tracestate.length <= MOST_STATE && /^[\x20-\x7e\t]+$/.test(tracestate);
  return isState ? { traceparent, tracestate } : { traceparent };
}
