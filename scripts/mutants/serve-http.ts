/** The server: its connections, bodies, answers, start and end. */
import { type Mutant, mutantsOf } from './mutant.ts';

const FRONT = ['test/serve/http/front-door.test.ts'];
const LIFE = ['test/serve/lifecycle.rest.test.ts'];

export const SERVE_HTTP: readonly Mutant[] = [
  ...mutantsOf(
    'src/serve/http/connections.ts',
    [
      ['if (request.complete) return false;', 'return false;'],
      ['if (!hasMuchBody(request)) {', 'if (false) {'],
      ['      endWithin(LINGER_MS, socket);\n', '      socket.destroy();\n'],
      ['setTimeout(() => socket.destroy(), ms)', 'setTimeout(() => {}, ms)'],
      ['        if (left < 0) socket.destroy();\n', ''],
      ['filter(({ req }) => req.complete)', 'filter(() => false)'],
      ["HPE_HEADER_OVERFLOW: ['431", "HPE_HEADER_OVERFLOW: ['400"],
      ["ERR_HTTP_REQUEST_TIMEOUT: ['408", "ERR_HTTP_REQUEST_TIMEOUT: ['400"],
    ],
    FRONT,
  ),
  ...mutantsOf(
    'src/serve/requests/body-slot.ts',
    [
      ['if (said !== undefined && said > mostBytes) throw tooLarge(mostBytes);', ''],
      ['    if (bytes > this.#most) throw tooLarge(this.#most);\n', ''],
      ['    if (this.#slot !== undefined) this.#room.arena.give(this.#slot);\n', ''],
    ],
    FRONT,
  ),
  ...mutantsOf(
    'src/serve/http/receive-body.ts',
    [["request.on('end', () => resolve(request.complete));", "request.on('end', () => resolve(false));"]],
    FRONT,
  ),
  ...mutantsOf(
    'src/serve/http/front-door.ts',
    [
      ['      this.#requests -= 1;\n', ''],
      ['    while (this.#requests > 0)\n', '    while (false)\n'],
      ['      response.destroy();\n', ''],
    ],
    FRONT,
  ),
  ...mutantsOf(
    'src/serve/requests/body-slot.ts',
    [
      ['larger.bytes.set(this.#slot.bytes.subarray(before, before + this.#received), before);', ''],
      ['      arena.give(this.#slot);\n      this.#slot = larger;', '      this.#slot = larger;'],
      ['Math.min(said, Math.max(FIRST_BYTES, FIRST_SHARE * bytes))', 'said'],
    ],
    LIFE,
  ),
  ...mutantsOf(
    'src/serve/server.ts',
    [
      ['      server.#isGivenUp = true;\n', ''],
      ["    state.phase = 'draining';\n", ''],
      ['      for (const front of this.#fronts) front.end();\n', ''],
      ['      await server.#end();\n', ''],
      ['    this.#listeners.http.close();\n', ''],
      ['    using _watching = signal', '    signal'],
      ['        if (this.#closing === undefined) this.#fail(error);\n      },', '      },'],
      [
        "      onEvent({ kind: 'error', error: new Error(`engines",
        "      void ({ kind: 'error', error: new Error(`engines",
      ],
    ],
    LIFE,
  ),
  ...mutantsOf(
    'src/serve/hand-over.ts',
    [
      ['    if (this.#isEnded) {\n', '    if (false) {\n'],
      ['    this.#sent.splice(0, received);\n', ''],
      ['    this.#forgotten = (this.#forgotten + received) | 0;\n', ''],
      ['    for (const descriptor of this.#sent.splice(0)) closeSync(descriptor);\n', ''],
      ['    Atomics.add(this.#words, RECEIVED, 1);\n', ''],
      ['writable: true, allowHalfOpen });', 'writable: true });'],
      ['      closeSync(descriptor);\n      this.#countDown();\n', '      this.#countDown();\n'],
      ['      closeSync(descriptor);\n      this.#countDown();\n', '      closeSync(descriptor);\n'],
    ],
    ['test/serve/hand-over.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/listening-socket.ts',
    [
      ['Math.min(...open)', 'open[0] as number'],
      ['turn = (turn + chosen + 1) % all.length;', 'turn = 0;'],
      ['>= limit) return undefined;', '> limit) return undefined;'],
      ['exclusive: true }, BACKLOG);', 'exclusive: true });'],
    ],
    ['test/serve/listening-socket.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/http/watchers.ts',
    [
      ['if (response.destroyed) return;', ''],
      ['if (this.#isEnded) response.end();', 'if (false) response.end();'],
      ['this.#responses.delete(response);', ''],
      ['> MOST_UNREAD_BYTES', '>= MOST_UNREAD_BYTES'],
      ['for (const response of this.#responses) response.end();', ''],
    ],
    ['test/serve/http/watchers.test.ts'],
  ),
];
