/** The clock that all threads of a server share. */

/** ms since some moment in the past, the same in every thread: it never goes back. */
export function nowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}

let turnBeganMs: number | undefined;

/**
 * When this turn of the thread's event loop began, as far as it was asked for then, by `nowMs`. What a turn finds had come before it:
 * the last request of many has waited for those before it.
 */
export function turnMs(): number {
  if (turnBeganMs !== undefined) return turnBeganMs;
  turnBeganMs = nowMs();
  setImmediate(() => {
    turnBeganMs = undefined;
  });
  return turnBeganMs;
}
