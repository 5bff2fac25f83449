/** The server: queues between threads, slots, engines, and requests on their way through HTTP. */
import { type Mutant, mutantsOf } from './mutant.ts';

const RING = ['test/serve/engine/ring.test.ts'];
const ARENA = ['test/serve/engine/arena.test.ts'];
const ENGINE = ['test/serve/engine/engine.test.ts'];
const LINES = ['test/serve/requests/engine-lines.test.ts'];
const BODY = ['test/serve/http/receive-body.test.ts'];
const INFER = ['test/serve/http/infer.test.ts'];

export const SERVE_ENGINE: readonly Mutant[] = [
  ...mutantsOf(
    'src/serve/engine/ring.ts',
    [
      ['| 0) >= this.capacity) return false;', '| 0) > this.capacity) return false;'],
      [
        'if (((written - Atomics.load(this.positions, READ)) | 0) >= this.capacity)',
        'if (written - Atomics.load(this.positions, READ) >= this.capacity)',
      ],
      ['    return (read - first) | 0;', '    return read - first;'],
      ['& (this.capacity - 1)', '& this.capacity'],
      ['Number.isInteger(Math.log2(capacity))', 'true'],
      ['    Atomics.add(this.#rung, 0, 1);\n', ''],
      ['    Atomics.notify(this.#rung, 0);\n', ''],
      ['    if (!async) return undefined;\n', ''],
      ["      this.#wake = () => resolve('woken');\n", ''],
    ],
    RING,
  ),
  ...mutantsOf(
    'src/serve/engine/arena.ts',
    [
      [
        'return new NativeMemory(aligned(Math.max(bytes, 1)));',
        'return new NativeMemory(Math.max(bytes, 1));',
      ],
      ['const own = aligned(Math.max(bytes, 1));', 'const own = aligned(bytes);'],
      ['gap.bytes >= own)', 'gap.bytes > own)'],
      ['      gap.at += own;\n', ''],
      ['      gap.bytes -= own;\n', ''],
      ['    this.#used += own;\n', ''],
      ['    this.#used -= bytes;\n', ''],
      ['before.at + before.bytes > at', 'false'],
      ['(after?.at ?? this.bytes) < at + bytes', 'false'],
      [
        'const joinsBefore = before !== undefined && before.at + before.bytes === at;',
        'const joinsBefore = false;',
      ],
      ['const joinsAfter = after !== undefined && at + bytes === after.at;', 'const joinsAfter = false;'],
      [
        '      before.bytes += bytes + after.bytes;\n      this.#gaps.splice(next, 1);',
        '      before.bytes += bytes + after.bytes;',
      ],
      ['      after.at = at;\n', ''],
      ['      if (lender === taker) continue;\n', ''],
      ['      if (nowMs() - sinceMs < this.#patienceMs) return false;\n', ''],
      ['      this.#lenders.delete(lender);\n', ''],
    ],
    ARENA,
  ),
  ...mutantsOf(
    'src/serve/engine/engine.ts',
    [
      [
        'if (refusal === undefined) at(this.#jobs, job.from).set(job.ticket, job);',
        'at(this.#jobs, job.from).set(job.ticket, job);\n    if (refusal === undefined);',
      ],
      [' && this.#options.batcher.cancel(job)) this.#end', ') this.#end'],
      ["      for (const job of taken.late) this.#end(job, 'late');\n", ''],
      ['      if (this.#isDisposed) memory[Symbol.dispose]();\n      else this', '      this'],
      ['    this.pump();\n    this.#options', '    this.#options'],
      ['this.#idle.length > 0 && this.#pauses === 0', 'this.#idle.length > 0'],
      ['      await this.settled();\n      return await work();', '      return await work();'],
      ['    this.#options.events.freed();\n', ''],
      ['      await before;\n      const prediction', '      const prediction'],
      ['      await before;\n      this.#endedMs', '      this.#endedMs'],
      ['      batcher.failed(this.#endedMs);\n', ''],
      ['      events.failed(error);\n', ''],
      ["      for (const job of batch) this.#end(job, this.#lost === undefined ? 'failed' : 'lost');\n", ''],
      ['    if (this.#lost !== undefined) return undefined;\n', ''],
      ['error instanceof CudaError && error.contextLost', 'error instanceof CudaError'],
      ["    for (const job of batch) this.#end(job, 'done', times);\n", ''],
      ['      return;\n    }\n    batcher.ran', '    }\n    batcher.ran'],
      ['        place += samples * width;\n', ''],
      ['(outputAddress - at(addresses, from))', '(outputAddress - at(addresses, 0))'],
      ['    at(this.#jobs, job.from).delete(job.ticket);\n', ''],
      ['      predicting.catch(() => {});\n', ''],
    ],
    ENGINE,
  ),
  ...mutantsOf(
    'src/serve/engine/warm-up.ts',
    [
      ['if (samples >= mostSamples || ms > longestMs) break;', 'if (samples >= mostSamples) break;'],
      ['    yield Math.min(samples, mostSamples);', '    yield samples;'],
      ['backend.capacityFor(samples + 1)', 'samples * GROWTH'],
      [' : samples * GROWTH;', ' : backend.capacityFor(samples + 1);'],
      [' || (known !== undefined && !compilesKernels)) return;', ') return;'],
      ['return known ?? measured;', 'return measured;'],
    ],
    ['test/serve/engine/warm-up.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/engine/own-model.ts',
    [
      ['before?.likeness === likenessOf(model) ? before.measured : undefined', 'before?.measured'],
      ['before?.likeness === likenessOf(model) ? before.measured : undefined;', 'undefined;'],
      ['      endDrawing();\n', ''],
    ],
    ['test/serve/models/spare-threads.rest.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/models/engine-threads.ts',
    [
      ['    if (this.#isClosed || this.#spares.length >= this.#most) thread.end();\n    else', '   '],
      ['    const spare = this.#spares.pop();', '    const spare = undefined as EngineThread | undefined;'],
      ['    for (const thread of this.#spares.splice(0)) thread.end();\n', ''],
      ['        this.#spares.splice(place, 1);\n', ''],
    ],
    ['test/serve/models/spare-threads.rest.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/models/running-engine.ts',
    [['const isSound = !this.#hasFailed && !this.#isLost;', 'const isSound = true;']],
    ['test/serve/models/spare-threads.rest.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/engine/thread-errors.ts',
    [
      ['  Object.assign(error, { name, message });\n', ''],
      ['  if (stack !== undefined) error.stack = stack;\n', ''],
      ['  if (!(error instanceof Error)) return', '  if (false) return'],
    ],
    ['test/serve/engine/thread-errors.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/engine/model-source.ts',
    [
      ['    backend[Symbol.dispose]();\n', ''],
      ['      closesBackend: true,\n', ''],
    ],
    ['test/serve/engine/model-source.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/requests/engine-lines.ts',
    [
      ['    if (this.#posted.size >= this.#mostWaiting) return undefined;\n', ''],
      [
        'if (!postRequest(this.#requests, request)) return undefined;',
        'postRequest(this.#requests, request);',
      ],
      ['    Atomics.add(this.#load, 0, samples);\n', ''],
      ['      Atomics.sub(this.#load, 0, posted.samples);\n', ''],
      ['      this.#posted.delete(answered.ticket);\n', ''],
      ['    if (!this.#posted.has(ticket)) return;\n', ''],
      ['    this.#ringSoon();\n    this', '    this'],
      ['    if (this.#rings) return;\n', ''],
      ['      this.#rings = false;\n', ''],
      ['    this.#onPost();\n', ''],
      ['      this.#awaited.resolve();\n    };', '    };'],
      ['    this.#isStopped = true;\n    this.#awaited.resolve();', '    this.#isStopped = true;'],
    ],
    LINES,
  ),
  ...mutantsOf(
    'src/serve/requests/answer-delay.ts',
    [
      ['    if (deadlineMs === Number.POSITIVE_INFINITY) return deadlineMs;\n', ''],
      ['Math.max(0, deadlineMs - arrivedMs)', '(deadlineMs - arrivedMs)'],
      ['QUANTILE * (WINDOW - 1)', 'WINDOW - 1'],
      ['    this.#count = 0;\n', '    this.#count--;\n'],
    ],
    ['test/serve/requests/answer-delay.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/requests/body-slot.ts',
    [
      [
        'if (before + bytes + behind > this.#slot.bytes.length)',
        'if (before + bytes > this.#slot.bytes.length)',
      ],
      ['    this.giveUp();\n', '    this.#room.arena.keep(this);\n'],
      ['    this.#stop(tooSlow());\n', ''],
      ['    arena.keep(this);\n', ''],
      ['Math.max(bytes, 2 * this.#received)), this)', 'Math.max(bytes, 2 * this.#received)))'],
    ],
    BODY,
  ),
  ...mutantsOf(
    'src/serve/requests/infer-model.ts',
    [
      ['      for (const slot of slots) arena.give(slot);\n', ''],
      ['    slots.push(copy);\n', ''],
      ['    slots.push(own);\n', ''],
      ['    if (error !== undefined) throw error;\n', ''],
      ['    if (bytes <= slot.bytes.length) return slot;\n', '    return slot;\n'],
      ['      if (client?.destroyed) return undefined;\n', ''],
      ["      client?.once('close', giveUp);\n", ''],
      ["      client?.off('close', giveUp);\n", ''],
      [
        '      const answered = await answering;\n',
        "      const answered = await Promise.race([answering, new Promise<undefined>((gone) => client?.once('close', () => gone(undefined)))]);\n      if (answered === undefined) return undefined;\n",
      ],
      ['other.load < least.load', 'other.load > least.load'],
      ['Math.min(arrivedMs + ms, latestMs)', 'arrivedMs'],
      ['timeoutMicros / 1000', 'timeoutMicros'],
      ['Math.min(priority, LEVELS)', 'priority'],
    ],
    INFER,
  ),
];
