/** V8's garbage collector, for those who know when there is time for it, or count what is left. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Collects, once for each call, what is not used any more in this thread, by V8's own function. `HeapProfiler.collectGarbage` of the
 * inspector needs no flag, but collects seven times and drops compiled code with that.
 */
export function garbageCollector(): () => void {
  setFlagsFromString('--expose-gc');
  return runInNewContext('gc') as () => void;
}
