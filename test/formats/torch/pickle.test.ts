import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError } from '../../../src/errors.ts';
import { type UnpickleOptions, unpickle } from '../../../src/formats/torch/pickle.ts';
import {
  dictOf,
  InertObject,
  PickledGlobal,
  type PickledValue,
} from '../../../src/formats/torch/pickled-value.ts';
import { torchGlobal } from '../../../src/formats/torch/torch-globals.ts';

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

  test('known globals are called, by REDUCE, NEWOBJ, INST and OBJ', () => {
    const sum = new PickledGlobal('m.sum', ([a, b]) => Number(a) + Number(b));
    const global: UnpickleOptions['global'] = (module, name) =>
      `${module}.${name}` === 'm.sum' ? sum : undefined;
    for (const text of [
      'cm\nsum\nK\x01K\x02\x86R.',
      '\x8c\x01m\x8c\x03sum\x93K\x01K\x02\x86\x81.',
      'cm\nsum\nK\x01K\x02\x86}\x92.',
      '(K\x01K\x02im\nsum\n.',
      '(cm\nsum\nK\x01K\x02o.',
    ])
      assert.equal(read(pickle(text), { global }), 3, JSON.stringify(text));
    const named = read(pickle('cm\nsum\nK\x01K\x02\x86}U\x01aK\x01s\x92.'), { global });
    assert.deepEqual(named, new InertObject('m.sum', [[1, 2], new Map([['a', 1]])]));
  });

  test('protocol 0: escapes, infinities', () => {
    assert.equal(read(pickle('VK\\u00e4se\n.')), 'Käse');
    assert.deepEqual(read(pickle('(Finf\nF-inf\nFnan\nF1e3\nt.')), [Infinity, -Infinity, NaN, 1000]);
  });
});

describe('what only Python could make', () => {
  // Nothing is imported and nothing is called: a class or function is its name, an object what the pickle says of it.
  const rows: readonly (readonly [name: string, bytes: Uint8Array, type: string, args: PickledValue])[] = [
    ['a call', pickle('cos\nsystem\n(U\x02idtR.'), 'os.system', ['id']],
    ['STACK_GLOBAL', pickle('\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.'), 'os.system', ['id']],
    ['NEWOBJ', pickle('cm\nC\nK\x01\x85\x81.'), 'm.C', [1]],
    ['NEWOBJ_EX', pickle('cm\nC\nK\x01\x85}\x92.'), 'm.C', [1]],
    ['INST', pickle('(K\x01im\nC\n.'), 'm.C', [1]],
    ['OBJ', pickle('(cm\nC\nK\x01o.'), 'm.C', [1]],
    ['builtins.eval', pickle('cbuiltins\neval\n(U\x011tR.'), 'builtins.eval', ['1']],
    ['a call of what a call gave', pickle('cbuiltins\ngetattr\n)R(K\x01tR.'), 'builtins.getattr', [1]],
    ['torch.hub.load', pickle('ctorch.hub\nload\n)R.'), 'torch.hub.load', []],
    [
      '_reconstructor',
      pickle('ccopy_reg\n_reconstructor\n(cm\nC\nc__builtin__\nobject\nNtR.'),
      'm.C',
      undefined as never,
    ],
  ];
  for (const [name, bytes, type, args] of rows) {
    test(name, () => {
      const value = readTorch(bytes);
      assert.ok(value instanceof InertObject);
      assert.equal(value.type, type);
      if (args !== undefined) assert.deepEqual(value.args, args);
    });
  }

  test('names are names, whatever they name', () => {
    for (const name of ['torch.__proto__', '__proto__.constructor', 'builtins.getattr', 'numpy.load']) {
      const [module, own] = name.split('.') as [string, string];
      const value = readTorch(pickle(`c${module}\n${own}\n.`));
      assert.ok(value instanceof PickledGlobal && value.call === undefined, name);
      assert.equal(value.type, name);
    }
  });

  test('placeholders take states, items and entries', () => {
    const value = readTorch(pickle('cm\nC\n)\x81K\x01a(K\x02K\x03eK\x04U\x01as(K\x05NuU\x01sb.'));
    assert.ok(value instanceof InertObject);
    assert.deepEqual([value.items, value.state], [[1, 2, 3], 's']);
    assert.deepEqual(
      dictOf(value),
      new Map<PickledValue, PickledValue>([
        [4, 'a'],
        [5, null],
      ]),
    );
  });

  test('a dict of protocol 1 of a class of its own', () => {
    const value = readTorch(
      pickle('ccopy_reg\n_reconstructor\n(cm\nD\nc__builtin__\ndict\n}U\x01aK\x01stR.'),
    );
    assert.deepEqual(dictOf(value), new Map([['a', 1]]));
  });

  test('known calls with arguments that they do not know', () => {
    const rows = [
      ['c_codecs\nencode\n(U\x01aU\x05utf-8tR.', '_codecs.encode'],
      ['ccollections\nOrderedDict\n(K\x01tR.', 'collections.OrderedDict'],
      ['ccollections\nOrderedDict\n(](K\x01etR.', 'collections.OrderedDict'],
      ['cbuiltins\nset\n(NtR.', 'builtins.set'],
      ['cnumpy\ndtype\n)R.', 'numpy.dtype'],
      ['ctorch\nSize\n)R.', 'torch.Size'],
      ['ctorch\ndevice\n)R.', 'torch.device'],
      [
        'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\nU\x02f8\x85RC\x01\x00tR.',
        'numpy.core.multiarray.scalar',
      ],
      [
        'cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\nU\x02M8\x85RC\x08abcdefghtR.',
        'numpy.core.multiarray.scalar',
      ],
      ['ctorch._utils\n_rebuild_parameter\n)R.', 'torch._utils._rebuild_parameter'],
    ] as const;
    for (const [text, type] of rows) {
      const value = readTorch(pickle(text));
      assert.ok(value instanceof InertObject, text);
      assert.equal(value.type, type);
    }
  });

  test('what an opcode refuses is said in its own words', () => {
    for (const [text, words] of [
      ['cm\nC\n)N\x92.', /named arguments that are no dict/],
      ['K\x01Q.', /a persistent id where none is expected/],
      ['.', /the stack is empty/],
      ['(.', /the stack is empty/],
      ['(0N.', /the stack is empty/],
    ] as const)
      assert.throws(() => readTorch(pickle(text)), words);
  });

  test('what lies outside of the file is refused, and not called damaged', () => {
    for (const opcode of ['\x82\x01', '\x83\x01\x00', '\x84\x01\x00\x00\x00', '\x97', '\x98'])
      assert.throws(
        () => readTorch(pickle(opcode, '.')),
        (error: unknown) => {
          assert.ok(error instanceof FormatError);
          assert.equal(error.code, 'PICKLE_FORBIDDEN');
          assert.doesNotMatch(`${error.message} ${error.hint}`, /damaged/);
          return true;
        },
      );
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
    ['an INST without a mark', pickle('im\nC\n.')],
    ['an OBJ of nothing', pickle('(o.')],
    ['NEWOBJ_EX without a dict', pickle('cm\nC\n)N\x92.')],
    ['items of a number', pickle('K\x01(K\x01e.')],
    ['entries of a list', pickle('](K\x01K\x01u.')],
    ['SETITEMS of a placeholder, a key alone', pickle('cm\nC\n)\x81(K\x01u.')],
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
});

describe('bounds', () => {
  const pickles = (opcode: string, ...lengths: readonly number[]) =>
    lengths.map((length) => pickle(opcode, uint32(length), new Uint8Array(length).fill(1), '.'));
  const rows: readonly (readonly [
    name: string,
    refused: RegExp,
    at: () => Uint8Array,
    past: () => Uint8Array,
  ])[] = [
    [
      'bytes of an integer',
      /absurd size/,
      () => pickles('\x8b', 1024)[0] as Uint8Array,
      () => pickles('\x8b', 1025)[0] as Uint8Array,
    ],
    [
      'digits of an integer',
      /an integer that is none/,
      () => pickle(`I${'1'.repeat(2000)}\n.`),
      () => pickle(`I${'1'.repeat(2001)}\n.`),
    ],
    [
      'characters of a name',
      /absurd name/,
      () => pickle(`c${'m'.repeat(400)}\n${'n'.repeat(600)}\n.`),
      () => pickle(`c${'m'.repeat(400)}\n${'n'.repeat(601)}\n.`),
    ],
    ['protocols', /newer than 5/, () => pickle('\x80\x05N.'), () => pickle('\x80\x06N.')],
    [
      'operations',
      /more than 20000000 operations/,
      () => pickle('N0'.repeat(9_999_999), 'N.'),
      () => pickle('N0'.repeat(9_999_999), 'NN.'),
    ],
    [
      'containers',
      /more than 2000000 containers/,
      () => pickle(']0'.repeat(1_999_999), '].'),
      () => pickle(']0'.repeat(2_000_000), '].'),
    ],
    [
      'values kept',
      /keeps more than 4194304 values/,
      () => pickle('N', '\x94'.repeat(1 << 22), '.'),
      () => pickle('N', '\x94'.repeat((1 << 22) + 1), '.'),
    ],
    [
      'bytes of the file',
      /it ends early/,
      () => pickle('X', uint32(3), 'abc.'),
      () => pickle('X', uint32(3), 'ab'),
    ],
    ['operations of the file', /it ends early/, () => pickle('K\x01.'), () => pickle('K\x01')],
    [
      'bytes of no number',
      /it ends early/,
      () => pickle('\x8b', uint32(0), '.'),
      () => pickle('N\x8b', uint32(0xffffffff), '.'),
    ],
  ];
  for (const [name, refused, atBound, past] of rows)
    test(`at it is read, past it by one is refused: ${name}`, () => {
      read(atBound());
      assert.throws(() => read(past()), refused);
    });

  test('a pickle in the middle of a buffer', () => {
    const bytes = pickle('somethingJ\x01\x02\x00\x00.');
    assert.equal(read(bytes.subarray('something'.length)), 513);
  });

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
    const value = readTorch(bytes);
    const texts = new Set((value as InertObject[]).map(({ args }) => args[0]));
    assert.deepEqual(texts, new Set([Buffer.from(text).toString()]));
  });

  test('copies of a dict do not take quadratic time: past a bound the calls leave placeholders', () => {
    const entries = Array.from({ length: 20_000 }, (_, i) => pickle('J', uint32(i), 'N'));
    const value = readTorch(
      pickle(
        'ccollections\nOrderedDict\nq\x00}(',
        ...entries,
        'u\x85q\x02(',
        'h\x00h\x02R'.repeat(2000),
        't.',
      ),
    ) as PickledValue[];
    assert.equal(value.filter((item) => item instanceof Map).length, 50);
    assert.equal(value.filter((item) => item instanceof InertObject).length, 1950);
  });

  test('a type name is no tree', () => {
    const tree = pickle('cnumpy\ndtype\nK\x01', '2\x86'.repeat(20), '\x85R.');
    assert.ok(readTorch(tree) instanceof InertObject);
  });

  test('numpy scalars of big-endian dtypes', () => {
    const state = '(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb';
    const one = '\x3f\xf0\x00\x00\x00\x00\x00\x00';
    const bytes = pickle(
      `cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nU\x02f8\x89\x88\x87R${state}C\x08${one}\x86R.`,
    );
    assert.equal(readTorch(bytes), 1);
  });
});
