/** What a server hears: bounds of bodies, what is refused, what may stay in its place. */
import { type Mutant, mutantsOf } from './mutant.ts';

const PARSE = ['test/serve/protocol/parse-infer.test.ts', 'test/serve/protocol/fuzz.test.ts'];
const KNOWN = ['test/serve/protocol/known-heads.test.ts'];
const NATIVE = ['test/serve/protocol/native-binder.test.ts', 'test/serve/protocol/roundtrip.test.ts'];

export const SERVE_PROTOCOL: readonly Mutant[] = [
  ...mutantsOf(
    'src/serve/protocol/tensor-request.ts',
    [
      ['if (end > body.length) {', 'if (end > body.length + 1) {'],
      ['if (at !== body.length)', 'if (at > body.length)'],
      ['if (bytes !== needed)', 'if (bytes < count * size)'],
      ['if (tensors.has(name)) invalid', 'if (tensors.has(`${name} `)) invalid'],
      ['if (count * size > MAX_TENSOR_BYTES)', 'if (count * size > 2 ** 60)'],
      ['!Number.isSafeInteger(bytes) || bytes < 0', '!Number.isSafeInteger(bytes)'],
      ['Number.isSafeInteger(extent) && extent >= 0', 'Number.isSafeInteger(extent)'],
      ['if (data !== undefined) invalid', 'if (data === null) invalid'],
    ],
    PARSE,
  ),
  ...mutantsOf(
    'src/serve/protocol/parse-infer.ts',
    [
      ['if (length <= bodyBytes) return length;', 'if (length <= bodyBytes + 1) return length;'],
      ['if (bytes.length > MAX_JSON_BYTES) {', 'if (bytes.length > 2 * MAX_JSON_BYTES) {'],
      [' && body[7] === 0', ''],
      ["Object.hasOwn(value, 'inputs')", "'toString' in value"],
      ['if (CONTENT_TYPES.has(type)) return type;', 'if (type.length > 0) return type;'],
    ],
    PARSE,
  ),
  ...mutantsOf(
    'src/serve/protocol/known-heads.ts',
    [
      ['bodyBytes !== body.length || ', ''],
      [' || own !== query) continue;', ') continue;'],
      ['if (json.compare(body, 0, jsonBytes) !== 0) continue;', ''],
      [' || ![...tensors.values()].every(isInBody)', ''],
      ['jsonBytes > MOST_BYTES || ', ''],
      [' && this.#strangers % SELDOM !== 0', ''],
      ['if (this.#strangers > PATIENCE', 'if (this.#strangers > 1e9'],
      [
        'const json = Buffer.from(body.subarray(0, jsonBytes));',
        'const json = Buffer.from(body.buffer, body.byteOffset, jsonBytes);',
      ],
    ],
    KNOWN,
  ),
  ...mutantsOf(
    'src/serve/protocol/route.ts',
    [
      [' && last.method === method', ''],
      ['last?.target === target', 'last !== undefined'],
      ["if ('route' in routed) this.#last", 'this.#last'],
    ],
    ['test/serve/protocol/route.test.ts'],
  ),
  ...mutantsOf(
    'src/serve/protocol/request-parameters.ts',
    [
      ['Number.isInteger(value) && value >= 0 && value <= most', 'value >= 0 && value <= most'],
      ['value >= 0 && value <= most', 'value <= most'],
      ['value >= 0 && value <= most', 'value >= 0'],
      ['if (names.has(name)) invalid', 'if (names.size < 0) invalid'],
      ['timeoutMicros === 0 ? undefined : timeoutMicros', 'timeoutMicros'],
    ],
    PARSE,
  ),
  ...mutantsOf(
    'src/serve/protocol/string-tensor.ts',
    [
      ['if (at > bytes.length) refuse', 'if (at > bytes.length + 4) refuse'],
      ['if (at + 4 > bytes.length) refuse', 'if (at > bytes.length) refuse'],
      ['if (at !== bytes.length) refuse', 'if (at < 0) refuse'],
      ['if (4 * count > bytes.length) refuse', 'if (count < 0) refuse'],
      ['getUint32(at, true)', 'getUint32(at, false)'],
    ],
    PARSE,
  ),
  ...mutantsOf(
    'src/serve/protocol/json-tensor.ts',
    [
      ['value === (value | 0)', 'Number.isInteger(value)'],
      [
        'Number.isSafeInteger(value) ? BigInt(value) : undefined',
        'Number.isInteger(value) ? BigInt(value) : undefined',
      ],
      ['BigInt.asIntN(64, integer) === integer ? integer : undefined', 'integer'],
      ['part.length !== shape[axis]', 'part.length < (shape[axis] as number)'],
      ['if (list.length === count) return list;', 'if (list.length >= count) return list;'],
    ],
    PARSE,
  ),
  ...mutantsOf(
    'src/serve/protocol/native-binder.ts',
    [
      ['|| samples < 1 ', ''],
      ['!Number.isInteger(samples) || ', ''],
      ['if (!isBacked || !found.isComplete())', 'if (!found.isComplete())'],
      ['if (!isBacked || !found.isComplete())', 'if (!isBacked)'],
      ['starts.at(-1) === samples ? starts : null', 'starts.at(-1) !== 0 ? starts : null'],
      ['return isMixed ? undefined', 'return isMixed && groups.size > 99 ? undefined'],
      ['!== this.#denseFeatures) return undefined;', '< this.#denseFeatures) return undefined;'],
      ['return json === undefined ? undefined : null;', 'return undefined;'],
      ['return count === 1 ? Int32Array', 'return count !== 0 ? Int32Array'],
      ["dtype !== 'float32' || shape.length > 2", 'shape.length > 2'],
    ],
    NATIVE,
  ),
  ...mutantsOf(
    'src/serve/protocol/native-binder.ts',
    [
      [' && this.#last.bodyAt === bodyAt', ''],
      [' || native.users !== undefined', ''],
    ],
    KNOWN,
  ),
  ...mutantsOf(
    'src/serve/protocol/native-tables.ts',
    [
      ['if (elementsIn(lengths) !== order.length * bags)', 'if (elementsIn(lengths) < order.length * bags)'],
      ['(shape.length === 2 && shape[0] !== order.length)', 'shape.length === 3'],
      ['rows.shape.length === 2 && rows.shape[0] === bags', 'rows.shape.length === 2'],
      ['count !== bags && count !== bags + 1', 'count < bags'],
      ['return count === bags ?', 'return count >= bags ?'],
      ['hasEnd: count > bags', 'hasEnd: true'],
      ['=== true || longestBag !== undefined', '=== true'],
      ['this.#isThere[table] === true || ', ''],
      [
        'weighted !== undefined && weighted !== (weights !== undefined)',
        'weighted === true && weights === undefined',
      ],
      ["at(this.#features, table).ids.kind === 'rows'", 'table >= 0'],
      ['order === undefined || order.length === 0', 'order === undefined'],
      ['own.every((extent, axis) => extent === shape[axis])', 'own.length > 0'],
      ['this.#bodyAt + byteOffset', 'byteOffset'],
    ],
    NATIVE,
  ),
  ...mutantsOf('src/serve/protocol/native-names.ts', [["names.delete('');", '']], NATIVE),
  ...mutantsOf(
    'src/tensor.ts',
    [['? buffer : new Uint8Array(buffer);', '? buffer : buffer.slice();']],
    PARSE,
  ),
];
