/** Collects what is not used any more in this thread. */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/**
 * Once, by V8's own function. `HeapProfiler.collectGarbage` of the inspector needs no flag, but collects seven times and drops compiled
 * code with that.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
}
