/** gRPC: the codec's bounds, messages as they come, connections. */
import { type Mutant, mutantsOf } from './mutant.ts';

const CODEC = ['test/serve/grpc/codec.test.ts'];
const DOOR = ['test/serve/grpc/grpc-door.rest.test.ts'];
const SESSIONS = ['test/serve/grpc/sessions.test.ts'];

export const SERVE_GRPC: readonly Mutant[] = [
  ...mutantsOf(
    'src/serve/grpc/codec/wire-reader.ts',
    [
      ['this.lo > this.end - this.at)', 'this.lo > this.bytes.length)'],
      ['if (i === MOST_VARINT_BYTES - 1 && bits > 1) break;', ''],
      ['if (this.hi !== 0 || this.lo < 8)', 'if (this.hi !== 0)'],
      ['if (bytes > this.end - at)', 'if (false)'],
      ['if (depth === MOST_DEPTH)', 'if (false)'],
      ['if (tag >>> 3 !== start >>> 3)', 'if (false)'],
      ['    if (this.#parts > MOST_PARTS)\n', '    if (false)\n'],
    ],
    CODEC,
  ),
  ...mutantsOf(
    'src/serve/grpc/codec/decode.ts',
    [
      ['  reader.end = outer;\n  return found;', '  return found;'],
      ['    for (const other of others) found[other] = undefined;\n', ''],
    ],
    CODEC,
  ),
  ...mutantsOf(
    'src/serve/grpc/codec/elements.ts',
    [
      ['if (length % this.#size !== 0)', 'if (false)'],
      ['    reader.end = start + length;\n', ''],
    ],
    CODEC,
  ),
  ...mutantsOf(
    'src/serve/grpc/receive-message.ts',
    [
      ['    if (this.#left < 0)\n', '    if (false)\n'],
      ['if (packed > 1)', 'if (false)'],
      ['if (length > this.#room.mostBytes)', 'if (false)'],
      ['    this.#slot?.giveUp();\n', ''],
      ['packed === 0 ? length : undefined', 'length'],
    ],
    DOOR,
  ),
  ...mutantsOf(
    'src/serve/grpc/sessions.ts',
    [
      ['if (own.resetsLeft <= RESETS_LEFT)', 'if (own.resetsLeft < RESETS_LEFT)'],
      ['if (own.toldAt !== undefined || session.closed', 'if (session.closed'],
      ['      own.calls.delete(stream);\n', ''],
      ['Math.min(RESETS_AT_ONCE, own.resetsLeft + more)', 'own.resetsLeft'],
      ['now - call.waitingSince >= requestMs', 'false'],
      ['if (!own.hasSpoken && idleFor >= headersMs)', 'if (false)'],
    ],
    SESSIONS,
  ),
];
