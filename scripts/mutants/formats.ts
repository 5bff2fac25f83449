/** What reads files of others: bounds, limits, and what must be refused. */
import { type Mutant, mutantsOf } from './mutant.ts';

const BOUNDS = 'test/formats/torch/torch-bounds.rest.test.ts';
const TORCH = [
  BOUNDS,
  'test/formats/torch/torch-file.test.ts',
  'test/formats/torch/torch-hostile.rest.test.ts',
];
const PICKLE = ['test/formats/torch/pickle.test.ts', BOUNDS];
const STRIDED = ['test/formats/torch/strided-read.test.ts', BOUNDS];

export const FORMATS: readonly Mutant[] = [
  ...mutantsOf('src/formats/safetensors.ts', [
    ['if (byteOffset < end)\n', 'if (byteOffset < end - 1)\n'],
    ['if (byteOffset > end)\n', 'if (byteOffset > end + 1)\n'],
    ['if (end > fileBytes) {', 'if (end > fileBytes + 1) {'],
    ['if (end < fileBytes) throw', 'if (end + 1 < fileBytes) throw'],
    ['shape.length > MAX_RANK', 'shape.length > MAX_RANK + 1'],
    ['const MAX_RANK = 64;', 'const MAX_RANK = 63;'],
    ['if (length > BigInt(MAX_HEADER_BYTES)) {', 'if (length > BigInt(MAX_HEADER_BYTES) + 1n) {'],
    ['if (8 + headerBytes > size)', 'if (headerBytes > size)'],
    ['if (end - begin !== bytes) {', 'if (end - begin < bytes) {'],
    ['Number.isSafeInteger(value) && (value as number) >= 0', 'Number.isSafeInteger(value)'],
    ['if (!Number.isSafeInteger(bytes)) throw', 'if (Number.isNaN(bytes)) throw'],
    ['await using opened', 'const opened'],
    ['offsets.length !== 2 ||', 'offsets.length < 2 ||'],
    ['(8 - (Buffer.byteLength(json) % 8)) % 8', '(4 - (Buffer.byteLength(json) % 4)) % 4'],
    ['{ bytes, sources }', '{ bytes, sources: [] }'],
    ['|| a.byteLength - b.byteLength', ''],
  ]),
  ...mutantsOf(
    'src/formats/torch/saved-tensor.ts',
    [
      ['const MAX_RANK = 64;', 'const MAX_RANK = 65;'],
      ['value.length <= MAX_RANK', 'value.length < MAX_RANK'],
      ['if (shape.length !== stride.length)', 'if (shape.length > stride.length)'],
      ['!isCount(offset) || ', ''],
      [' && (value as number) >= 0;', ';'],
      ['(extent - 1) * at(stride, axis), offset + 1)', '(extent - 1) * at(stride, axis), offset)'],
      ['if (byteLength > 0 && !(end <= available))', 'if (byteLength > 0 && !(end <= available + 1))'],
      ['Math.floor((storage.elements * (storage.element?.bytes ?? 1)) / bytes)', 'storage.elements'],
      ["metadata.get('neg') === true", "metadata.get('neg') === false"],
      ['place + offset * bytes', 'place + offset'],
      ['if (extent !== 1 && stride[axis] !== expected)', 'if (stride[axis] !== expected)'],
      ['if (!Number.isSafeInteger(byteLength))\n', 'if (Number.isNaN(byteLength))\n'],
    ],
    TORCH,
  ),
  ...mutantsOf(
    'src/formats/torch/torch-globals.ts',
    [
      [
        'const tensor: Call = ([storage, offset, shape, stride, , , metadata])',
        'const tensor: Call = ([storage, offset, stride, shape, , , metadata])',
      ],
      [
        'const typedTensor: Call = ([storage, offset, shape, stride, , , dtype, metadata])',
        'const typedTensor: Call = ([storage, offset, shape, stride, , dtype, , metadata])',
      ],
      ['if (isStateful(made) && state !== undefined) made.setState(state);', ''],
      [
        '  if (DISTRIBUTED.test(type)) return new PickledGlobal(type, () => new DistributedTensor(file, type));\n',
        '',
      ],
      ["typeof index === 'number' ? `${type}:${index}` : type", 'type'],
    ],
    [...TORCH, 'test/formats/torch/torch-kinds.test.ts', 'test/formats/torch/torch211.test.ts'],
  ),
  ...mutantsOf(
    'src/formats/torch/torch-legacy.ts',
    [
      ['const MAX_PICKLES_BYTES = 64 << 20;', 'const MAX_PICKLES_BYTES = 64 << 10;'],
      ['if (protocol.value !== PROTOCOL) throw', 'if (protocol.value === undefined) throw'],
      ["system.value.get('little_endian') === false", "system.value.get('little_endian') === 0"],
      [
        'first.element === storage.element && first.elements === storage.elements',
        'first.element === storage.element',
      ],
      ['if (broken === undefined && at > size)', 'if (broken === undefined && at > size + 1)'],
      ['if (elements !== BigInt(storage.elements)) {', 'if (elements < BigInt(storage.elements)) {'],
      ['places.set(storage.key, broken ?? begin);', 'places.set(storage.key, begin);'],
      [
        "if (!Array.isArray(keys.value)) throw invalid('the list of storages is missing');",
        'if (!Array.isArray(keys.value)) return object.value;',
      ],
      ["      broken ??= damaged('lies after a storage that belongs to no tensor');\n", ''],
      ['await using opened', 'const opened'],
    ],
    TORCH,
  ),
  ...mutantsOf(
    'src/formats/torch/torch-zip.ts',
    [
      ['const MAX_PICKLE_BYTES = 64 << 20;', 'const MAX_PICKLE_BYTES = 64 << 10;'],
      ['if (offset + length > size)', 'if (offset + length > size + 1)'],
      ['members.has(`${prefix}constants.pkl`) ||', 'false ||'],
      [".toString() !== 'little'", ".toString() === ''"],
      ['if (entry.compressionMethod !== 0)', 'if (entry.compressionMethod === 1)'],
      ['if (entry.uncompressedSize !== bytes) {', 'if (entry.uncompressedSize < bytes) {'],
      ['await using own', 'const own'],
    ],
    [...TORCH, 'test/formats/dcp/dcp.test.ts'],
  ),
  ...mutantsOf(
    'src/formats/torch/pickle.ts',
    [
      ['const MAX_OPERATIONS = 20_000_000;', 'const MAX_OPERATIONS = 40_000_000;'],
      ['const MAX_NAME = 1000;', 'const MAX_NAME = 2000;'],
      ['if (++this.#operations > MAX_OPERATIONS)', 'if (this.#operations > MAX_OPERATIONS)'],
      ['if (this.#cursor.uint8() > 5)', 'if (this.#cursor.uint8() > 6)'],
      ['this.#stack.push(this.#stack.popMany(3));', 'this.#stack.push(this.#stack.popMany(2));'],
      ["case '\\x83':\n", ''],
      ["case '\\x98':\n", ''],
      ["if (!isMap(named)) throw this.invalid('named arguments that are no dict');", ''],
      ['callable instanceof PickledGlobal && unnamed ?', 'callable instanceof PickledGlobal ?'],
      [
        "if (persistentLoad === undefined) throw this.invalid('a persistent id where none is expected');",
        'if (persistentLoad === undefined) return this.#stack.push(id);',
      ],
    ],
    PICKLE,
  ),
  ...mutantsOf(
    'src/formats/torch/pickle-cursor.ts',
    [
      ['at + count > this.#bytes.length', 'at + count > this.#bytes.length + 1'],
      ['if (count < 0 || ', 'if ('],
      ['if (length > 1024) throw', 'if (length > 2048) throw'],
      ['{1,2000}', '{1,4000}'],
      ['BigInt.asIntN(8 * length, value)', 'BigInt.asUintN(8 * length, value)'],
      ['Number.isSafeInteger(number) ? number : value', 'number'],
      [
        'bytes.buffer, bytes.byteOffset, bytes.byteLength);\n    this.at',
        'bytes.buffer, 0, bytes.byteLength);\n    this.at',
      ],
      ['this.#view.getFloat64(this.#advance(8))', 'this.#view.getFloat64(this.#advance(8), true)'],
      ['this.at = end + 1;', 'this.at = end;'],
    ],
    PICKLE,
  ),
  ...mutantsOf(
    'src/formats/torch/pickle-stack.ts',
    [
      ['const MAX_CONTAINERS = 2_000_000;', 'const MAX_CONTAINERS = 4_000_000;'],
      ['const MAX_MEMO = 1 << 22;', 'const MAX_MEMO = 1 << 23;'],
      [
        "if (value === undefined || value === MARK) throw new Error('the stack is empty');\n    return value;\n  }\n\n  /** The topmost",
        'return value as PickledValue;\n  }\n\n  /** The topmost',
      ],
    ],
    PICKLE,
  ),
  ...mutantsOf(
    'src/formats/torch/zip-directory.ts',
    [
      ['const MAX_ENTRIES = 1 << 18;', 'const MAX_ENTRIES = 1 << 19;'],
      ['if (members.has(name)) throw invalid(`the zip holds ${name} twice`);', ''],
      ['if (byteOffset < end) throw', 'if (byteOffset + 1 < end) throw'],
      ['if (end > range.offset + range.length) throw', 'if (end > range.offset + range.length + 1) throw'],
      ['if (uncompressedSize > limit || compressedSize > limit) throw', 'if (compressedSize > limit) throw'],
      ['{ maxOutputLength: limit }', '{}'],
      ['entry.crc32 !== 0 && crc32(bytes) !== entry.crc32', 'false'],
      ['if (method !== entry.compressionMethod)', 'if (method > entry.compressionMethod)'],
      ['range.offset + at(starts, i)', 'at(starts, i)'],
    ],
    [...TORCH, 'test/formats/dcp/dcp.test.ts'],
  ),
  ...mutantsOf(
    'src/formats/torch/strided-read.ts',
    [
      ['from === inner.extent * inner.from', 'from >= inner.extent * inner.from'],
      ['at - (at % elementBytes)', 'at'],
      ['if (tail > whole)', 'if (tail > whole + 1)'],
      ['if (elementBytes > unit) copyPlane', 'if (elementBytes < unit) copyPlane'],
      ['const WINDOW_BYTES = 16 << 20;', 'const WINDOW_BYTES = 16;'],
      ['await using opened', 'const opened'],
    ],
    STRIDED,
  ),
  ...mutantsOf('src/formats/gzip.ts', [
    ['const MAX_RATIO = 50;', 'const MAX_RATIO = 5000;'],
    ['inflated > FREE_BYTES && ', ''],
    ['compressed += chunk.length;', ''],
    ['await bytes.return(undefined);', ''],
    ['await using opened', 'const opened'],
    ['if (length >= bytes) break;', ''],
  ]),
  ...mutantsOf('src/formats/dcp/box.ts', [
    ['at(offsets, axis) + at(sizes, axis) > extent', 'at(offsets, axis) + at(sizes, axis) > extent + 1'],
    ['beginA < beginB + at(b.sizes, axis)', 'beginA <= beginB + at(b.sizes, axis)'],
    ['if (pairs > MAX_PAIRS)', 'if (pairs < 0)'],
    ['if (index >= size) return', 'if (index > size) return'],
  ]),
  ...mutantsOf('src/formats/json-text.ts', [
    ['const MAX_DEPTH = 64;', 'const MAX_DEPTH = 65;'],
    ['const MAX_CONTAINERS = 1 << 22;', 'const MAX_CONTAINERS = 1 << 23;'],
    ['const key = escaped ? unescaped', 'const key = !escaped ? unescaped'],
    ['if (++values > MAX_VALUES)', 'if (values > MAX_VALUES)'],
    ['      many.add(key);\n', ''],
    ['new Set(this.#keys.slice(begin))', 'new Set()'],
    ['      this.#keys.length = this.#begins[this.depth - 1] as number;\n', ''],
    ['      this.#all.delete(this.depth);\n', ''],
  ]),
  ...mutantsOf('src/formats/sharded-index.ts', [
    ['if (inside === undefined) {', 'if (inside === null) {'],
    ['if (stray !== undefined) throw', 'if (stray === null) throw'],
    [
      'if (tensor === undefined) throw invalid(indexFile, `is not',
      'if (tensor === null) throw invalid(indexFile, `is not',
    ],
  ]),
  ...mutantsOf(
    'src/formats/block-cache.ts',
    [
      ['if (this.#blocks.size > MAX_BLOCKS) this.#blocks.delete(oldest as string);', ''],
      ['const key = `${begin} ${file}`;', 'const key = `${begin}`;'],
      ['Math.min(position + length, size)', 'position + length'],
    ],
    ['test/formats/block-cache.test.ts', 'test/formats/dcp/dcp.test.ts'],
  ),
];
