import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { FormatError, HotrowError } from '../../src/errors.ts';
import { type UnpickleOptions, unpickle } from '../../src/formats/pickle.ts';
import type { PickledValue } from '../../src/formats/pickled-value.ts';
import { torchGlobal } from '../../src/formats/torch-globals.ts';

/** A pickle of opcodes (latin1 text) and raw bytes. */
const pickle = (...parts: (string | Uint8Array)[]): Uint8Array =>
  new Uint8Array(
    Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : part))),
  );

const read = (bytes: Uint8Array, options: Partial<UnpickleOptions> = {}): PickledValue =>
  unpickle(bytes, { file: 'x.pt', global: () => undefined, ...options }).value;

const readTorch = (bytes: Uint8Array): PickledValue => read(bytes, { global: torchGlobal('x.pt') });

const uint32 = (value: number): Uint8Array => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};

describe('values', () => {
  // Every row is what CPython's pickle.dumps writes for the value, some frame and memo opcodes left out.
  const rows: readonly (readonly [name: string, bytes: Uint8Array, value: PickledValue])[] = [
    ['None', pickle('N.'), null],
    ['protocol 0 bool', pickle('I01\n.'), true],
    ['protocol 0 int', pickle('I-42\n.'), -42],
    ['protocol 0 long', pickle('L1267650600228229401496703205376L\n.'), 2n ** 100n],
    ['protocol 0 float', pickle('F1.5\n.'), 1.5],
    ['BININT1', pickle('K\xff.'), 255],
    ['BININT2', pickle('M\x01\x02.'), 513],
    ['BININT', pickle('J\xfe\xff\xff\xff.'), -2],
    ['BINFLOAT', pickle('G\x3f\xf8\x00\x00\x00\x00\x00\x00.'), 1.5],
    ['LONG1 of no bytes', pickle('\x8a\x00.'), 0],
    ['LONG1 -129', pickle('\x8a\x02\x7f\xff.'), -129],
    ['LONG1 2^80', pickle('\x8a\x0b', new Uint8Array(10), '\x01.'), 2n ** 80n],
    ['LONG4 256', pickle('\x8b\x02\x00\x00\x00\x00\x01.'), 256],
    ['BINUNICODE', pickle('X\x03\x00\x00\x00K\xc3\xa4.'), 'Kä'],
    ['SHORT_BINUNICODE in a frame', pickle('\x80\x04\x95\x04\x00\x00\x00\x00\x00\x00\x00\x8c\x01a.'), 'a'],
    ['protocol 0 string', pickle("S'abc'\n."), 'abc'],
    ['SHORT_BINBYTES', pickle('C\x02\x00\xff.'), new Uint8Array([0, 255])],
    ['empty tuple', pickle(').'), []],
    ['TUPLE2', pickle('K\x01K\x02\x86.'), [1, 2]],
    ['TUPLE3', pickle('K\x01K\x02K\x03\x87.'), [1, 2, 3]],
    ['list by APPENDS', pickle('](K\x01K\x02e.'), [1, 2]],
    [
      'dict by SETITEMS',
      pickle('}(K\x01NK\x02\x88u.'),
      new Map<PickledValue, PickledValue>([
        [1, null],
        [2, true],
      ]),
    ],
    ['set', pickle('\x8f(K\x01K\x01K\x02\x90.'), new Set([1, 2])],
    ['memo', pickle('](K\x07q\x00h\x00e.'), [7, 7]],
    ['MEMOIZE', pickle('](K\x07\x94h\x00e.'), [7, 7]],
  ];
  for (const [name, bytes, value] of rows) test(name, () => assert.deepEqual(read(bytes), value));

  test('says where the pickle ends, and begins where it is told', () => {
    const bytes = pickle('K\x01.K\x02.');
    assert.deepEqual(unpickle(bytes, { file: 'x', global: () => undefined }), { value: 1, end: 3 });
    assert.deepEqual(unpickle(bytes, { file: 'x', offset: 3, global: () => undefined }), {
      value: 2,
      end: 6,
    });
  });

  test('a list in itself keeps its identity', () => {
    const list = read(pickle(']q\x00h\x00a.')) as PickledValue[];
    assert.equal(list[0], list);
  });

  test('keys of the file never reach a prototype', () => {
    const value = read(pickle('}(U\x09__proto__}U\x08pollutedK\x01sU\x0bconstructorNu.'));
    assert.ok(value instanceof Map && value.get('__proto__') instanceof Map);
    assert.equal(({} as Record<string, unknown>).polluted, undefined);
  });

  test('persistent ids are resolved by the caller', () => {
    const persistentLoad = (id: PickledValue) => `storage ${String(id)}`;
    assert.equal(read(pickle('K\x07Q.'), { persistentLoad }), 'storage 7');
    assert.equal(read(pickle('Pseven\n.'), { persistentLoad }), 'storage seven');
  });

  test('allowed globals are called, others refused, by REDUCE and by NEWOBJ', () => {
    const global: UnpickleOptions['global'] = (module, name) =>
      `${module}.${name}` === 'm.sum' ? (a, b) => Number(a) + Number(b) : undefined;
    assert.equal(read(pickle('cm\nsum\nK\x01K\x02\x86R.'), { global }), 3);
    assert.equal(read(pickle('\x8c\x01m\x8c\x03sum\x93K\x01K\x02\x86\x81.'), { global }), 3);
  });
});

describe('forbidden globals', () => {
  const rows = [
    ['os.system', pickle('cos\nsystem\n(U\x02idtR.')],
    ['os.system', pickle('\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.')],
    ['builtins.eval', pickle('cbuiltins\neval\n(U\x011tR.')],
    ['builtins.getattr', pickle('cbuiltins\ngetattr\n.')],
    ['torch.__proto__', pickle('ctorch\n__proto__\n.')],
    ['__proto__.constructor', pickle('c__proto__\nconstructor\n.')],
    ['torch.hub.load', pickle('ctorch.hub\nload\n.')],
    ['numpy.load', pickle('cnumpy\nload\n.')],
  ] as const;
  for (const [i, [name, bytes]] of rows.entries()) {
    test(`${name} (${i})`, () => {
      assert.throws(
        () => readTorch(bytes),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          assert.equal(error.code, 'PICKLE_FORBIDDEN');
          assert.ok(error.message.includes(name) && error.message.includes('x.pt'), error.message);
          assert.match(error.hint ?? '', /nothing in the file was executed/);
          return true;
        },
      );
    });
  }
  test('opcodes for extensions and instances do not exist', () => {
    for (const opcode of ['\x82\x01', '\x83\x01\x00', 'ios\nsystem\n', '\x92', 'o'])
      assert.throws(() => readTorch(pickle('(', opcode, '.')), { code: 'PICKLE_INVALID' });
  });
});

describe('malformed pickles', () => {
  const rows: readonly (readonly [name: string, bytes: Uint8Array])[] = [
    ['nothing', pickle('')],
    ['no STOP', pickle('K\x01')],
    ['STOP on an empty stack', pickle('.')],
    ['STOP on a mark', pickle('(.')],
    ['an unknown opcode', pickle('\xff.')],
    ['protocol 6', pickle('\x80\x06N.')],
    ['a string past the end', pickle('X', uint32(0xffffffff), 'a.')],
    ['8-byte lengths past the end', pickle('\x8d\xff\xff\xff\xff\xff\xff\xff\xff.')],
    ['LONG4 of negative length', pickle('\x8b\xff\xff\xff\xff.')],
    ['LONG4 of absurd length', pickle('\x8b', uint32(2000), new Uint8Array(2000), '.')],
    ['an integer that is none', pickle('Iabc\n.')],
    ['a line without an end', pickle('I12')],
    ['no mark', pickle('K\x01t.')],
    ['an unwritten memo', pickle('h\x05.')],
    ['append to no list', pickle('NNa.')],
    ['SETITEMS of a key alone', pickle('}(K\x01u.')],
    ['a call of no callable', pickle('K\x01)R.')],
    ['arguments that are no tuple', pickle('ccollections\nOrderedDict\nNR.')],
    ['a persistent id where none is expected', pickle('K\x01Q.')],
    ['STACK_GLOBAL of numbers', pickle('K\x01K\x02\x93.')],
    [
      'a numpy scalar too short',
      pickle('cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8\x85RC\x01\x00\x86R.'),
    ],
  ];
  for (const [name, bytes] of rows) {
    test(name, () => {
      assert.throws(
        () => readTorch(bytes),
        (error: unknown) => {
          assert.ok(error instanceof FormatError, String(error));
          assert.equal(error.code, 'PICKLE_INVALID');
          assert.match(error.message, /^x\.pt: .*byte \d+/);
          assert.equal(typeof error.details.position, 'number');
          assert.equal(error.details.file, 'x.pt');
          return true;
        },
      );
    });
  }

  const onlyHotrowErrors = (bytes: Uint8Array): void => {
    try {
      readTorch(bytes);
    } catch (error) {
      assert.ok(error instanceof HotrowError, `${error} for ${Buffer.from(bytes).toString('hex')}`);
    }
  };

  test('random bytes: a value or a HotrowError', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), onlyHotrowErrors), { numRuns: 2000 });
  });

  test('random opcodes: a value or a HotrowError', () => {
    const opcodes = [
      ...'(.012NKM)]}taeusbRQ',
      '\x88',
      '\x85',
      '\x86',
      '\x87',
      '\x8f',
      '\x90',
      '\x91',
      '\x93',
      '\x94',
      '\x81',
      'q\x00',
      'h\x00',
      'U\x02f8',
      'U\x06latin1',
      'C\x04abcd',
      'ccollections\nOrderedDict\n',
      'ctorch\nSize\n',
      'ctorch\nFloatStorage\n',
      'ctorch\ndevice\n',
      'ctorch._utils\n_rebuild_tensor_v2\n',
      'cnumpy\ndtype\n',
      'c_codecs\nencode\n',
      'cnumpy.core.multiarray\nscalar\n',
      'ctorch._utils\n_rebuild_parameter\n',
    ];
    const programs = fc.array(fc.constantFrom(...opcodes), { maxLength: 40 });
    fc.assert(
      fc.property(programs, (program) => onlyHotrowErrors(pickle(...program, '.'))),
      { numRuns: 5000 },
    );
  });
});

describe('bounds', () => {
  test('calls do not multiply what the file holds: 200 encodes of one megabyte', () => {
    const text = new Uint8Array(1 << 20).fill(0x61);
    const calls = 'h\x00h\x01R'.repeat(200);
    const bytes = pickle(
      'c_codecs\nencode\nq\x00X',
      uint32(text.length),
      text,
      'U\x06latin1\x86q\x01(',
      calls,
      't.',
    );
    let value: PickledValue = [];
    try {
      value = readTorch(bytes);
    } catch (error) {
      assert.ok(error instanceof HotrowError, String(error));
      return;
    }
    const buffers = new Set((value as Uint8Array[]).map((item) => item.buffer));
    const held = [...buffers].reduce((sum, buffer) => sum + buffer.byteLength, 0);
    assert.ok(held <= 16 * bytes.length, `${held} bytes of a pickle of ${bytes.length}`);
  });

  test('copies of a dict do not take quadratic time', () => {
    const entries = Array.from({ length: 20_000 }, (_, i) => pickle('J', uint32(i), 'N'));
    const bytes = pickle(
      'ccollections\nOrderedDict\nq\x00}(',
      ...entries,
      'u\x85q\x02',
      'h\x00h\x02R0'.repeat(2000),
      'N.',
    );
    assert.throws(() => readTorch(bytes), { code: 'PICKLE_INVALID', message: /copy more than/ });
  });

  test('a type name is no tree', () => {
    const tree = pickle('cnumpy\ndtype\nK\x01', '2\x86'.repeat(20), '\x85R.');
    assert.throws(() => readTorch(tree), { code: 'PICKLE_INVALID' });
  });

  test('numpy scalars of big-endian dtypes are refused or read right', () => {
    const state = '(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb';
    const one = '\x3f\xf0\x00\x00\x00\x00\x00\x00';
    const bytes = pickle(
      `cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8\x89\x88\x87R${state}C\x08${one}\x86R.`,
    );
    let value: PickledValue;
    try {
      value = readTorch(bytes);
    } catch (error) {
      assert.ok(error instanceof HotrowError);
      return;
    }
    assert.equal(value, 1);
  });
});
