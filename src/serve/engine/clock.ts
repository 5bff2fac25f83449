/** The clock that all threads of a server share. */

/** ms since some moment in the past, the same in every thread: it never goes back. */
export function nowMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1e3 + nanoseconds / 1e6;
}
