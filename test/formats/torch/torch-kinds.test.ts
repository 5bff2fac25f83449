/** Which saved tensors can be had, which cannot and why; and that nothing else in a file matters to them. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { FormatError } from '../../../src/errors.ts';
import { InertObject } from '../../../src/formats/torch/pickled-value.ts';
import { dictOf, isSavedTensor, noTensors, readTorchFile } from '../../../src/formats/torch/torch-file.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import { op, pickleOf, torchFixture, torchZip, zip } from '../../support/torch-files.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-kinds-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array): Promise<string> {
  const path = join(folder, 'x.pt');
  await writeFile(path, bytes);
  return path;
}

/** The saved value of an archive with a storage '0' of the float32 0 … 5. */
const saved = async (value: string): Promise<unknown> => readTorchFile(await put(torchZip(pickleOf(value))));

const numbers = async (value: unknown): Promise<number[]> => {
  assert.ok(isSavedTensor(value));
  return Array.from((await readTensor(value.stored('t'))).data as Iterable<number | bigint>, Number);
};

/** The one error that `tensor` gives: of that code, naming file and tensor, not calling the file damaged. */
function refuses(tensor: unknown, name: string, code: FormatError['code'], pattern: RegExp): void {
  assert.ok(isSavedTensor(tensor), name);
  assert.throws(
    () => tensor.stored(name),
    (error: unknown) => {
      assert.ok(error instanceof FormatError, String(error));
      const { message, hint, details } = error;
      assert.equal(error.code, code, message);
      assert.match(`${message} | ${hint}`, pattern);
      assert.ok(message.includes(`tensor ${name}`) && details.file !== undefined, message);
      assert.equal(details.tensor, name);
      if (code === 'TORCH_FORMAT_UNSUPPORTED') assert.doesNotMatch(`${message} ${hint}`, /damaged/);
      return true;
    },
  );
}
const unsupported = (tensor: unknown, name: string, pattern: RegExp) =>
  refuses(tensor, name, 'TORCH_FORMAT_UNSUPPORTED', pattern);
const invalid = (tensor: unknown, name: string, pattern: RegExp) =>
  refuses(tensor, name, 'TORCH_FILE_INVALID', pattern);

describe('what stands beside the tensors', () => {
  for (const name of ['extras.zip', 'extras.legacy', 'extras.protocol5']) {
    test(`${name}: any object of Python, as a placeholder`, async () => {
      const value = dictOf(await readTorchFile(torchFixture(name)));
      assert.ok(value !== undefined);
      const state = value.get('state_dict');
      assert.ok(state instanceof InertObject);
      assert.equal(state.type, '__main__.StateDict');
      assert.deepEqual(await numbers(dictOf(state)?.get('weight')), [0, 1]);
      assert.deepEqual(await numbers(value.get('marked')), [0, 1, 2]);
      const settings = value.get('settings');
      assert.ok(settings instanceof InertObject);
      assert.deepEqual(
        [settings.type, (settings.state as Map<string, unknown>).get('lr')],
        ['argparse.Namespace', 0.1],
      );
      assert.deepEqual(value.get('default'), new Map([[0, [1]]]));
      assert.deepEqual(
        value.get('counter'),
        new Map([
          ['a', 2],
          ['b', 1],
        ]),
      );
      const queue = value.get('queue');
      assert.ok(queue instanceof InertObject);
      assert.deepEqual([queue.type, queue.items], ['collections.deque', [1, 2]]);
      for (const key of ['array', 'objects', 'big_endian']) {
        const array = value.get(key);
        assert.ok(array instanceof InertObject, key);
        assert.equal(array.type, 'numpy.ndarray');
      }
      assert.equal(value.size, 28);
    });
  }

  for (const kind of ['zip', 'legacy']) {
    test(`${kind}: tensors of other kinds`, async () => {
      const value = dictOf(await readTorchFile(torchFixture(`kinds.${kind}`)));
      assert.deepEqual(await numbers(value?.get('plain')), [0, 1]);
      for (const [name, pattern] of [
        ['sparse', /is sparse.*\| .*to_dense/],
        ['csr', /is sparse.*\| .*to_dense/],
        ['quantised', /quantised by PyTorch.*\| .*dequantize/],
        ['complex', /complex64.*\| .*view_as_real/],
        ['conjugate', /complex64.*\| .*view_as_real/],
        ['uninitialised', /never initialised.*\| .*batch/],
        ['meta', /meta device.*\| .*load_state_dict/],
      ] as const)
        unsupported(value?.get(name), name, pattern);
    });

    test(`${kind}: a whole model is refused by its class`, () =>
      assert.rejects(readTorchFile(torchFixture(`whole.${kind}`)), (error: unknown) => {
        assert.ok(error instanceof FormatError);
        assert.equal(error.code, 'PICKLE_FORBIDDEN');
        assert.match(error.message, /whole model of class torch\.nn\.modules\.container\.Sequential/);
        assert.match(error.hint, /torch\.save\(model\.state_dict\(\), path\)/);
        return true;
      }));
  }

  test('storages that no wanted tensor lies in', async () => {
    const tensor = (key: string, elements = 6, location = 'cpu', type = 'torch.FloatStorage') =>
      op.call(
        'torch._utils._rebuild_tensor_v2',
        op.storage(type, elements, key, location),
        op.integer(0),
        op.extents([2]),
        op.extents([1]),
        op.no,
        op.none,
      );
    const pickle = pickleOf(
      op.dict({
        good: tensor('0'),
        missing: tensor('1'),
        deflated: tensor('2'),
        short: tensor('0', 7),
        meta: tensor('9', 6, 'meta'),
        odd: tensor('0', 6, 'cpu', 'my.OwnStorage'),
        none: op.call('torch._utils._rebuild_tensor_v2', op.none, op.integer(0)),
      }),
    );
    const path = await put(
      zip([
        { name: 'a/data.pkl', data: pickle },
        { name: 'a/data/0', data: new Uint8Array(24) },
        { name: 'a/data/2', data: new Uint8Array(24), deflate: true },
      ]),
    );
    const value = dictOf(await readTorchFile(path));
    assert.deepEqual(await numbers(value?.get('good')), [0, 0]);
    invalid(value?.get('missing'), 'missing', /storage 1, which is missing/);
    unsupported(value?.get('deflated'), 'deflated', /storage 2, which is compressed/);
    invalid(value?.get('short'), 'short', /storage 0 of 24 bytes/);
    unsupported(value?.get('meta'), 'meta', /meta device/);
    for (const name of ['odd', 'none']) invalid(value?.get(name), name, /no storage/);
  });
});

describe('how PyTorch 2 writes tensors', () => {
  const v3 = (dtype: string, shape: readonly number[], bytes = 24, metadata = '') =>
    op.call(
      'torch._utils._rebuild_tensor_v3',
      op.storage('torch.storage.UntypedStorage', bytes),
      op.integer(0),
      op.extents(shape),
      op.extents(shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1))),
      op.no,
      op.call('collections.OrderedDict'),
      op.global(dtype),
      metadata,
    );
  test('dtypes without a storage class of their own', async () => {
    for (const [dtype, ours, count] of [
      ['uint16', 'uint16', 12],
      ['uint32', 'uint32', 6],
      ['uint64', 'uint64', 3],
      ['float8_e4m3fn', 'float8_e4m3', 24],
      ['float8_e5m2', 'float8_e5m2', 24],
    ] as const) {
      const tensor = await saved(v3(`torch.${dtype}`, [count]));
      assert.ok(isSavedTensor(tensor));
      const host = await readTensor(tensor.stored());
      assert.deepEqual([host.dtype, host.data.length, host.data.byteLength], [ours, count, 24]);
      invalid(await saved(v3(`torch.${dtype}`, [count + 1])), 't', /reaches past its storage/);
    }
  });
  test('dtypes that are not read', async () => {
    unsupported(await saved(v3('torch.float8_e4m3fnuz', [4])), 't', /float8_e4m3fnuz/);
    unsupported(await saved(v3('torch.int7', [4])), 't', /type that is not known/);
  });
  test('a view with the signs turned', async () =>
    unsupported(await saved(v3('torch.uint8', [4], 24, op.dict({ neg: op.yes }))), 't', /resolve_neg/));

  const plain = op.tensor([2], [1], 1);
  test('parameters, with and without attributes', async () => {
    const parameter = op.call('torch._utils._rebuild_parameter', plain, op.yes, op.none);
    assert.deepEqual(await numbers(await saved(parameter)), [1, 2]);
    const marked = op.call(
      'torch._utils._rebuild_parameter_with_state',
      plain,
      op.yes,
      op.none,
      op.dict({ a: op.yes }),
    );
    assert.deepEqual(await numbers(await saved(marked)), [1, 2]);
  });

  const ofType = (make: string, type: string, args: string, state: string) =>
    op.call('torch._tensor._rebuild_from_type_v2', op.global(make), op.global(type), args, state);
  const plainArgs = op.tuple(
    op.storage('torch.FloatStorage', 6),
    op.integer(1),
    op.extents([2]),
    op.extents([1]),
    op.no,
    op.none,
  );
  test('a subclass of tensor that is made as any tensor', async () => {
    const value = ofType(
      'torch._utils._rebuild_tensor_v2',
      'my.Tensor',
      plainArgs,
      op.dict({ note: op.none }),
    );
    assert.deepEqual(await numbers(await saved(value)), [1, 2]);
  });
  test('a subclass of tensor that wraps others', async () => {
    const args = op.tuple(op.global('torchao.Quantized'), op.global('torch.float32'), op.extents([2]));
    const value = ofType(
      'torch._utils._rebuild_wrapper_subclass',
      'torchao.Quantized',
      args,
      op.dict({ data: plain }),
    );
    unsupported(await saved(value), 't', /is a torchao\.Quantized.*\| .*dequantize/);
    const own = ofType('my.make', 'my.Tensor', op.tuple(), op.none);
    unsupported(await saved(own), 't', /is a my\.Tensor/);
  });

  const DTENSOR = 'torch.distributed.tensor.DTensor';
  const dtensor = (size: readonly number[], placement: string) =>
    ofType(
      'torch._utils._rebuild_wrapper_subclass',
      DTENSOR,
      op.tuple(op.global(DTENSOR), op.global('torch.float32'), op.extents(size)),
      op.tuple(
        op.none,
        op.dict({
          _local_tensor: plain,
          _spec: op.object(
            'torch.distributed.tensor._dtensor_spec.DTensorSpec',
            op.dict({
              placements: op.tuple(
                op.object(
                  `torch.distributed.tensor.placement_types.${placement}`,
                  op.dict({ dim: op.integer(0) }),
                ),
              ),
            }),
          ),
        }),
      ),
    );
  test('a DTensor is had where one process holds all of it', async () => {
    assert.deepEqual(await numbers(await saved(dtensor([2], 'Shard'))), [1, 2]);
    assert.deepEqual(await numbers(await saved(dtensor([2], 'Replicate'))), [1, 2]);
    unsupported(
      await saved(dtensor([8], 'Shard')),
      't',
      /sharded.*\[2\] of \[8\].*\| .*full_state_dict.*full_tensor/,
    );
    unsupported(await saved(dtensor([2], 'Partial')), 't', /DTensor: the state dict is sharded/);
    unsupported(await saved(op.object(DTENSOR, op.dict({ _local_tensor: plain }))), 't', /sharded/);
  });

  const SHARDED = 'torch.distributed._shard.sharded_tensor.api.ShardedTensor';
  const sharded = (size: readonly number[], shards: number) => {
    const shard = op.object(
      'torch.distributed._shard.sharded_tensor.shard.Shard',
      op.dict({ tensor: plain }),
    );
    const metadata = op.object(
      'torch.distributed._shard.sharded_tensor.metadata.ShardedTensorMetadata',
      op.dict({ size: op.call('torch.Size', op.extents(size)) }),
    );
    return op.tuple(op.list(...Array<string>(shards).fill(shard)), metadata, op.none, op.none, op.no);
  };
  test('a ShardedTensor is had where one shard is all of it', async () => {
    const wrapped = (state: string) =>
      ofType(
        'torch._utils._rebuild_wrapper_subclass',
        SHARDED,
        op.tuple(op.global(SHARDED), op.global('torch.float32'), op.extents([2])),
        state,
      );
    assert.deepEqual(await numbers(await saved(wrapped(sharded([2], 1)))), [1, 2]);
    assert.deepEqual(await numbers(await saved(op.object(SHARDED, sharded([2], 1)))), [1, 2]);
    unsupported(await saved(wrapped(sharded([4], 1))), 't', /ShardedTensor.*\[2\] of \[4\].*\| .*gather/);
    unsupported(await saved(wrapped(sharded([2], 2))), 't', /sharded/);
    unsupported(await saved(wrapped(sharded([2], 0))), 't', /sharded/);
  });
});

describe('what PyTorch writes besides tensors', () => {
  test('sets and counters of protocol 2', async () => {
    const items = op.list(op.integer(1), op.integer(2));
    assert.deepEqual(await saved(op.call('__builtin__.set', items)), new Set([1, 2]));
    assert.deepEqual(
      await saved(op.call('collections.Counter', op.dict({ a: op.integer(1) }))),
      new Map([['a', 1]]),
    );
  });

  test('numpy scalars of few bytes', async () => {
    const scalar = (code: string, bytes: string): string =>
      op.call(
        'numpy.core.multiarray.scalar',
        op.call('numpy.dtype', op.text(code), op.no, op.yes),
        `C${String.fromCharCode(bytes.length)}${bytes}`,
      );
    assert.deepEqual(
      await saved(op.list(scalar('f2', '\x00\x3e'), scalar('i2', '\xfd\xff'), scalar('u1', '\xc8'))),
      [1.5, -3, 200],
    );
  });
});

describe('noTensors', () => {
  test('says what stands where a state dict should', async () => {
    const array = op.call(
      'numpy.core.multiarray._reconstruct',
      op.global('numpy.ndarray'),
      op.extents([0]),
      op.text('b'),
    );
    const value = dictOf(
      await saved(
        op.dict({
          arrays: op.dict({ w: array }),
          model: op.object('my.Net', op.dict({ _modules: op.dict({}) })),
          other: op.list(),
        }),
      ),
    );
    const arrays = noTensors('x.pt', value?.get('arrays'));
    assert.match(`${arrays?.message} ${arrays?.hint}`, /numpy arrays.*such as w.*torch\.from_numpy/);
    assert.match(noTensors('x.pt', value?.get('model'))?.message ?? '', /whole model of class my\.Net/);
    assert.equal(noTensors('x.pt', value?.get('other')), undefined);
  });
});
