/** Random pickles: each gives a value or a typed error, and so does every tensor in it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { FormatError, HotrowError } from '../../../src/errors.ts';
import { unpickle } from '../../../src/formats/torch/pickle.ts';
import type { PickledValue } from '../../../src/formats/torch/pickled-value.ts';
import { readStorageId } from '../../../src/formats/torch/storage-id.ts';
import { torchGlobal } from '../../../src/formats/torch/torch-globals.ts';
import { STACK_OPCODES } from '../../support/pickle-opcodes.ts';
import fc from '../../support/properties.ts';
import { savedTensors } from '../../support/torch-files.ts';

const pickle = (...parts: readonly string[]): Uint8Array => Buffer.from(parts.join(''), 'latin1');

describe('random pickles', () => {
  /** Pieces of programs that leave one value on the stack, most of them. */
  const VALUES = [
    'N',
    '\x88',
    'K\x02',
    'J\xff\xff\xff\xff',
    'U\x02f8',
    'U\x06latin1',
    'U\x07storage',
    'C\x08abcdefgh',
    ')',
    ']',
    '}',
    '\x8f',
    'h\x00',
    'h\x01',
    ...[
      'collections\nOrderedDict',
      'collections\ndefaultdict',
      'builtins\nset',
      'copyreg\n_reconstructor',
      'torch\nSize',
      'torch\nFloatStorage',
      'torch.storage\nUntypedStorage',
      'torch\nfloat8_e5m2',
      'torch\ndevice',
      'torch._utils\n_rebuild_tensor_v2',
      'torch._utils\n_rebuild_tensor_v3',
      'torch._utils\n_rebuild_parameter',
      'torch._utils\n_rebuild_wrapper_subclass',
      'torch._utils\n_rebuild_qtensor',
      'torch._tensor\n_rebuild_from_type_v2',
      'torch.distributed.tensor\nDTensor',
      'torch.distributed._shard.sharded_tensor.api\nShardedTensor',
      'numpy\ndtype',
      'numpy.core.multiarray\nscalar',
      'numpy.core.multiarray\n_reconstruct',
      '_codecs\nencode',
      'm\nC',
    ].map((global) => `c${global}\n`),
  ];
  /** Opcodes that work on what is there. */
  const OPERATIONS = [
    ...STACK_OPCODES,
    ...['im\nC\n', 'q\x00', 'q\x01'],
    ...['\x85', '\x86', '\x87', '\x90', '\x91', '\x92', '\x93', '\x94', '\x81', '\x82\x01', '\x97'],
  ];
  const persistentLoad = (id: PickledValue) => readStorageId(id, () => () => 64);

  /** Reads a program and asks for every tensor in its value. Gives what came of them. */
  function settle(bytes: Uint8Array): string[] {
    const outcomes: string[] = [];
    try {
      const { value } = unpickle(bytes, { file: 'x.pt', global: torchGlobal('x.pt'), persistentLoad });
      for (const tensor of savedTensors(value)) {
        try {
          outcomes.push('files' in tensor.stored('t') ? 'assembled' : 'in the file');
        } catch (error) {
          assert.ok(error instanceof FormatError, `${error} for ${Buffer.from(bytes).toString('hex')}`);
          outcomes.push(error.code);
        }
      }
    } catch (error) {
      assert.ok(error instanceof HotrowError, `${error} for ${Buffer.from(bytes).toString('hex')}`);
    }
    return outcomes;
  }

  test('random opcodes: a value or a HotrowError, and so for every tensor', () => {
    const programs = fc.array(fc.constantFrom(...VALUES, ...OPERATIONS), { maxLength: 40 });
    fc.assert(
      fc.property(programs, (program) => void settle(pickle(...program, '.'))),
      { numRuns: 5000 },
    );
  });

  test('random programs of the right structure', () => {
    const { program } = fc.letrec<{ program: string; tuple: string; call: string }>((tie) => ({
      program: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        fc.constantFrom(...VALUES),
        tie('tuple'),
        tie('call'),
        fc.tuple(tie('call'), tie('program')).map(([object, state]) => `${object}${state}b`),
        fc.tuple(tie('call'), tie('program')).map(([object, item]) => `${object}${item}a`),
        fc.tuple(tie('program'), tie('program')).map(([key, value]) => `}${key}${value}s`),
        tie('program').map((value) => `${value}q\x00`),
        tie('program').map((value) => `${value}Q`),
      ),
      tuple: fc.array(tie('program'), { maxLength: 8 }).map((parts) => `(${parts.join('')}t`),
      call: fc
        .tuple(tie('program'), tie('tuple'), fc.constantFrom('R', '\x81', '}\x92'))
        .map(([callable, args, opcode]) => `${callable}${args}${opcode}`),
    }));
    fc.assert(
      fc.property(program, (text) => void settle(pickle('Nq\x00q\x01', text, '.'))),
      { numRuns: 3000 },
    );
  });

  test('random descriptions of tensors', () => {
    const odd = fc.constantFrom(
      'N',
      ')',
      'U\x01a',
      '\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f',
      'J\xff\xff\xff\xff',
    );
    const count = fc.oneof({ weight: 8, arbitrary: fc.nat(5).map((n) => `K${String.fromCharCode(n)}`) }, odd);
    const extents = fc.array(count, { maxLength: 4 }).map((parts) => `(${parts.join('')}t`);
    const type = fc.constantFrom(
      'torch\nFloatStorage',
      'torch.storage\nUntypedStorage',
      'torch\nComplexFloatStorage',
      'm\nC',
    );
    const storage = fc
      .tuple(type, count)
      .map(([name, elements]) => `(U\x07storagec${name}\nU\x010U\x03cpu${elements}tQ`);
    const tensor = fc
      .tuple(
        fc.constantFrom('_rebuild_tensor_v2', '_rebuild_tensor_v3'),
        fc.oneof({ weight: 8, arbitrary: storage }, odd),
        count,
        extents,
        extents,
        fc.constantFrom('ctorch\nfloat32\n', 'ctorch\nint8\n', 'N'),
      )
      .map(
        ([make, on, offset, shape, stride, dtype]) =>
          `ctorch._utils\n${make}\n(${on}${offset}${shape}${stride}\x89N${dtype}tR.`,
      );
    const outcomes = new Set<string>();
    fc.assert(
      fc.property(tensor, (text) => {
        for (const outcome of settle(pickle(text))) outcomes.add(outcome);
      }),
      { numRuns: 3000 },
    );
    assert.deepEqual([...outcomes].sort(), [
      'TORCH_FILE_INVALID',
      'TORCH_FORMAT_UNSUPPORTED',
      'assembled',
      'in the file',
    ]);
  });

  test('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void settle(bytes)),
      { numRuns: 2000 },
    );
  });
});
