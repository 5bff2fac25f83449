/** The program of an engine thread: it has a copy of a model, then of others that come after it, and owns every call into their devices. */
import { parentPort } from 'node:worker_threads';
import { garbageCollector } from '../../garbage-collector.ts';
import type { EngineStart, FromEngine, ToEngine } from './engine-messages.ts';
import { EngineRun } from './engine-run.ts';
import { sentError } from './thread-errors.ts';

/**
 * Without a model for so long, a thread that does not collect its garbage by itself any more does so: not earlier, since a load may be
 * under way or come soon, which compiled code that goes with it would serve.
 */
const IDLE_MS = 10_000;

const port = parentPort;
if (port === null) throw new TypeError('an engine runs in a thread of a server');
const say = (message: FromEngine) => port.postMessage(message);
/** Of the model that there is. */
let run: EngineRun | undefined;
let collecting: NodeJS.Timeout | undefined;

/** Runs a model until it is stopped. A thread where that fails ends: nobody knows what it still holds. */
async function runModel(start: EngineStart): Promise<void> {
  try {
    run = new EngineRun(start, say);
    await run.run();
    run = undefined;
    collecting = setTimeout(() => garbageCollector()(), IDLE_MS);
    say({ kind: 'stopped' });
  } catch (error) {
    say({ kind: 'failed', error: sentError(error) });
    port?.close();
  }
}

port.on('message', (message: ToEngine) => {
  if (message.kind === 'start' || message.kind === 'end') clearTimeout(collecting);
  if (message.kind === 'start') runModel(message.start);
  else if (message.kind === 'end') port.close();
  else run?.hear(message);
});
