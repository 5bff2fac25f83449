/** When a request is sent again, so that many who try again never bring a busy server down. */
import { ClientError, type HotrowError, ServerError } from '../errors.ts';

/** Of requests that go well, each pays for so much of a retry. */
const EARNED = 0.1;
/** Retries that are paid for at the start, and at most. */
const MOST = 10;
const FIRST_MS = 10;
const LONGEST_MS = 1000;

/** What a client may spend on retries: one for every ten requests, and ten beforehand. */
export class RetryBudget {
  #tokens = MOST;

  /** A request is sent for the first time. */
  earn(): void {
    this.#tokens = Math.min(MOST, this.#tokens + EARNED);
  }

  /** Whether there may be a retry now; it is paid for then. */
  spend(): boolean {
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}

/** Statuses of servers that did not do what was asked, and of proxies that reached none. */
const REFUSED: ReadonlySet<number> = new Set([429, 502, 503]);

/**
 * ms until a request may be sent again after `error`; undefined: not at all. `tries`: how often it was sent, 1 at first. `random`: from
 * 0 to 1. Inference changes nothing, so that a lost answer may be asked for again; a request that was dropped as late is late.
 */
export function retryDelayMs(error: HotrowError, tries: number, random = Math.random()): number | undefined {
  // The whole interval, evenly: those that failed together come back apart.
  const backoffMs = random * Math.min(LONGEST_MS, FIRST_MS * 2 ** tries);
  if (error instanceof ClientError && error.code === 'SERVER_UNREACHABLE') return backoffMs;
  if (!(error instanceof ServerError) || !REFUSED.has(error.status)) return undefined;
  // Behind its address there may be another server, which is not ending.
  if (error.code === 'SHUTTING_DOWN' || error.retryAfterMs === undefined) return backoffMs;
  return error.retryAfterMs + backoffMs;
}
