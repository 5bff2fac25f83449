/** A worker thread that sends back every entry of a queue, until one begins with −1: `workerData` is a RingWork. */
import { workerData } from 'node:worker_threads';
import { Bell, ENTRY_NUMBERS, type RingMemory, RingReader, RingWriter } from '../../src/serve/engine/ring.ts';

export interface RingWork {
  readonly there: RingMemory;
  readonly back: RingMemory;
  /** Of this thread, and of the one that started it. */
  readonly bell: SharedArrayBuffer;
  readonly otherBell: SharedArrayBuffer;
}

async function echo(work: RingWork): Promise<void> {
  const [reader, writer] = [new RingReader(work.there), new RingWriter(work.back)];
  const [bell, other] = [new Bell(work.bell), new Bell(work.otherBell)];
  // waitAsync alone keeps no thread alive.
  const alive = setInterval(() => {}, 60_000);
  const waiting: number[][] = [];
  for (let ended = false; !ended || waiting.length > 0; ) {
    bell.look();
    const drained = reader.drain((entries, place) => {
      const entry = [...entries.subarray(place, place + ENTRY_NUMBERS)];
      if (entry[0] === -1) ended = true;
      waiting.push(entry);
    });
    let pushed = 0;
    while (waiting.length > 0 && writer.push(...(waiting[0] as number[]))) {
      waiting.shift();
      pushed++;
    }
    if (drained > 0 || pushed > 0) other.ring();
    if (!ended || waiting.length > 0) await bell.wait();
  }
  clearInterval(alive);
}

if (workerData !== null) await echo(workerData as RingWork);
