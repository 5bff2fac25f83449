/** The open loop on a virtual clock: what is counted, and that no stall hides requests. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Clock, OpenLoop, type OpenLoopOptions, type Sender } from '../../src/load/open-loop.ts';
import type { Outcome, Tally } from '../../src/load/tally.ts';

/** Time that passes from call to call. */
class VirtualClock implements Clock {
  #nowMs = 0;
  #calls: { readonly atMs: number; readonly call: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wake(atMs: number, call: () => void): () => void {
    const own = { atMs, call };
    this.#calls.push(own);
    return () => {
      this.#calls = this.#calls.filter((other) => other !== own);
    };
  }

  get isAwaited(): boolean {
    return this.#calls.length > 0;
  }

  /** Time goes on although nobody asked for it: a process that had no core. */
  freeze(ms: number): void {
    this.#nowMs += ms;
  }

  runUntil(endMs: number): void {
    for (;;) {
      this.#calls.sort((a, b) => a.atMs - b.atMs);
      const next = this.#calls[0];
      if (next === undefined || next.atMs > endMs) break;
      this.#calls.shift();
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.call();
    }
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }
}

/** Arrivals every `gapMs`. */
function every(gapMs: number) {
  let at = 0;
  return {
    next: () => {
      at += gapMs;
      return at;
    },
  };
}

const ANSWERED: Outcome = { kind: 'answered', samples: 2 };

async function run(
  clock: VirtualClock,
  send: Sender['send'],
  options: Partial<OpenLoopOptions> = {},
  meanwhile: (loop: OpenLoop) => void = () => {},
): Promise<Tally> {
  const loop = new OpenLoop({
    clock,
    sender: { send },
    arrivals: every(1),
    pick: () => 0,
    startMs: 0,
    warmupMs: 0,
    durationMs: 1000.5,
    patienceMs: 500,
    ...options,
  });
  const done = loop.run();
  meanwhile(loop);
  clock.runUntil(10_000);
  assert.equal(clock.isAwaited, false);
  return done;
}

/** How many took longer. */
function longer(tally: Tally, ms: number): number {
  let count = 0;
  for (let rank = 1; rank <= tally.latency.count; rank++) if (tally.latency.atRank(rank) > ms) count += 1;
  return count;
}

test('a server that stalls for 300 ms: every request that was due meanwhile waited, and counts', async () => {
  const clock = new VirtualClock();
  // A request at a time, 0.1 ms each; nothing from 400 ms to 700 ms.
  const tally = await run(clock, (_, settled) => {
    const now = clock.nowMs();
    const readyMs = now >= 400 && now < 700 ? 700 : now + 0.1;
    clock.wake(readyMs, () => settled(ANSWERED));
    return true;
  });
  assert.equal(tally.counts.scheduled, 1000);
  assert.equal(tally.counts.inTime, 1000);
  assert.equal(tally.samples, 2000);
  // Due at 400, 401, … 699, they waited 300, 299, … 1 ms.
  assert.equal(longer(tally, 0.5), 300);
  assert.equal(longer(tally, 100.5), 200);
  assert.ok(Math.abs(tally.latency.atRank(990) - 290) < 3, `p99 ${tally.latency.atRank(990)}`);
});

test('a generator that is late itself says so, and its requests count from when they were due', async () => {
  const clock = new VirtualClock();
  let sent = 0;
  const tally = await run(clock, (_, settled) => {
    sent += 1;
    if (sent === 100) clock.freeze(50);
    clock.wake(clock.nowMs() + 0.1, () => settled(ANSWERED));
    return true;
  });
  assert.equal(tally.counts.scheduled, 1000);
  assert.ok(Math.abs(tally.lag.greatest - 49) < 0.01, `${tally.lag.greatest}`);
  assert.equal(longer(tally, 25.05), 25 + 1);
});

test('warm-up is sent and not counted, in whichever order it is answered', async () => {
  const clock = new VirtualClock();
  let sent = 0;
  const tally = await run(
    clock,
    (_, settled) => {
      sent += 1;
      clock.wake(clock.nowMs() + (clock.nowMs() < 200 ? 300 : 1), () => settled(ANSWERED));
      return true;
    },
    { warmupMs: 200.5, durationMs: 100 },
  );
  assert.equal(sent, 300);
  assert.equal(tally.counts.scheduled, 100);
  assert.equal(tally.counts.inTime, 100);
  assert.ok(tally.latency.greatest < 2, `${tally.latency.greatest}`);
});

test('a count ends the run', async () => {
  const clock = new VirtualClock();
  const tally = await run(
    clock,
    (_, settled) => {
      clock.wake(clock.nowMs() + 1, () => settled(ANSWERED));
      return true;
    },
    // Nobody is woken when there is nothing left to wait for.
    { count: 17, durationMs: Number.POSITIVE_INFINITY, patienceMs: 1e9 },
  );
  assert.equal(tally.counts.scheduled, 17);
  assert.equal(tally.spanMs, 18);
});

test('outcomes by kind; late is after the deadline, of the schedule', async () => {
  const clock = new VirtualClock();
  const outcomes: Outcome[] = [
    ANSWERED,
    ANSWERED,
    { kind: 'refused', what: '503 OVERLOADED' },
    { kind: 'dropped', what: '504 DEADLINE_EXCEEDED' },
    { kind: 'failed', what: '400' },
  ];
  let sent = 0;
  const tally = await run(
    clock,
    (_, settled) => {
      const n = sent++ % outcomes.length;
      clock.wake(clock.nowMs() + (n === 1 ? 11 : 10), () => settled(outcomes[n] as Outcome));
      return n !== 4;
    },
    { count: 100, deadlineMs: 10 },
  );
  const { scheduled, inTime, late, refused, dropped, failed, unanswered, waited } = tally.counts;
  assert.deepEqual([inTime, late, refused, dropped, failed, unanswered], [20, 20, 20, 20, 20, 0]);
  assert.equal(scheduled, 100);
  assert.equal(waited, 20);
  assert.equal(tally.latency.count, 40);
  assert.deepEqual([...tally.why].sort(), [
    ['400', 20],
    ['503 OVERLOADED', 20],
    ['504 DEADLINE_EXCEEDED', 20],
  ]);
});

test('what is not answered by the end counts with the time that it has waited; a later answer is none', async () => {
  const clock = new VirtualClock();
  const tally = await run(
    clock,
    (_, settled) => {
      clock.wake(clock.nowMs() + 5000, () => settled(ANSWERED));
      return true;
    },
    { count: 10, patienceMs: 500 },
  );
  assert.equal(tally.counts.unanswered, 10);
  assert.equal(tally.counts.inTime, 0);
  assert.equal(tally.latency.count, 10);
  assert.ok(tally.latency.atRank(1) >= 499, `${tally.latency.atRank(1)}`);
});

test('a run that is stopped has what was answered so far', async () => {
  const clock = new VirtualClock();
  const tally = await run(
    clock,
    (_, settled) => {
      clock.wake(clock.nowMs() + 5, () => settled(ANSWERED));
      return true;
    },
    {},
    (loop) => {
      clock.runUntil(100);
      loop.stop();
    },
  );
  assert.equal(tally.counts.scheduled, 100);
  assert.equal(tally.counts.unanswered, 5);
  assert.equal(tally.counts.inTime, 95);
});
