/** Every bound of what torch.save writes: what lies at it is read, what lies past it by one is refused. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { type ErrorCode, FormatError } from '../../../src/errors.ts';
import { unpickle } from '../../../src/formats/torch/pickle.ts';
import { StridedTensor } from '../../../src/formats/torch/saved-tensor.ts';
import { torchGlobal } from '../../../src/formats/torch/torch-globals.ts';
import { readTorchZip } from '../../../src/formats/torch/torch-zip.ts';
import { readTensor } from '../../../src/stored-tensor.ts';
import { isInFile, type StoredTensor } from '../../../src/tensor.ts';
import { leavesNoFilesOpen } from '../../support/resources.ts';
import { LEGACY_HEAD, latin1, op, pickleOf, readStored, torchZip, zip } from '../../support/torch-files.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-bounds-'));
});
after(() => rm(folder, { recursive: true }));

async function put(bytes: Uint8Array): Promise<string> {
  const path = join(folder, 'x.pt');
  await writeFile(path, bytes);
  return path;
}

function refusal(code: ErrorCode, pattern: RegExp) {
  return (error: unknown) => {
    assert.ok(error instanceof FormatError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  };
}

/** The one tensor of a pickle over storage 0, float32 0 … 5. */
async function stored(value: string): Promise<StoredTensor> {
  const [tensor, ...others] = await readStored(await put(torchZip(pickleOf(value))));
  assert.ok(tensor !== undefined && others.length === 0);
  return tensor;
}

const values = async (value: string): Promise<number[]> =>
  Array.from((await readTensor(await stored(value))).data as Float32Array);

/** A zip64 whose directory names `count` entries, which are all the same one. */
function zipOfEntries(count: number): Buffer {
  const one = zip([{ name: 'a', data: new Uint8Array(0) }]);
  const start = one.indexOf(latin1('PK\x01\x02'));
  const central = one.subarray(start, one.indexOf(latin1('PK\x05\x06')));
  const end = Buffer.alloc(56);
  end.write('PK\x06\x06', 'latin1');
  end.writeBigUInt64LE(44n, 4);
  end.writeBigUInt64LE(BigInt(count), 24);
  end.writeBigUInt64LE(BigInt(count), 32);
  end.writeBigUInt64LE(BigInt(count * central.length), 40);
  end.writeBigUInt64LE(BigInt(start), 48);
  const locator = Buffer.alloc(20);
  locator.write('PK\x06\x07', 'latin1');
  locator.writeBigUInt64LE(BigInt(start + count * central.length), 8);
  locator.writeUInt32LE(1, 16);
  const last = Buffer.alloc(22, 0xff);
  last.write('PK\x05\x06', 'latin1');
  last.writeUInt32LE(0, 4);
  last.writeUInt16LE(0, 20);
  return Buffer.concat([
    one.subarray(0, start),
    Buffer.alloc(count * central.length, central),
    end,
    locator,
    last,
  ]);
}

const ones = (count: number) => Array.from({ length: count }, () => 1);

describe('a tensor within its storage', () => {
  const read: readonly (readonly [name: string, value: string, elements: readonly number[]])[] = [
    ['the whole of it', op.tensor([2, 3], [3, 1]), [0, 1, 2, 3, 4, 5]],
    ['its last element', op.tensor([1], [1], 5), [5]],
    ['a part of it, from an element on', op.tensor([2], [1], 3), [3, 4]],
    ['strides up to its last element', op.tensor([2, 2], [4, 1]), [0, 1, 4, 5]],
    ['nothing, wherever that is', op.tensor([0], [1], 100), []],
    ['as many axes as there may be', op.tensor(ones(64), ones(64), 2), [2]],
  ];
  for (const [name, value, elements] of read)
    test(name, async () => assert.deepEqual(await values(value), elements));

  const refused: readonly (readonly [name: string, value: string, pattern: RegExp])[] = [
    ['one element past it', op.tensor([6], [1], 1), /reaches past its storage of 6/],
    ['strides one past it', op.tensor([2, 2], [5, 1]), /reaches past its storage of 6/],
    ['one axis more', op.tensor(ones(65), ones(65)), /no storage, offset, shape and stride/],
    ['more extents than strides', op.tensor([1, 1], [1]), /2 extents and 1 strides/],
    ['more strides than extents', op.tensor([1], [1, 1]), /1 extents and 2 strides/],
    ['a negative offset', op.tensor([1], [1], -1), /no storage, offset, shape and stride/],
    ['a negative extent', op.tensor([-1], [1]), /no storage, offset, shape and stride/],
    ['a negative stride', op.tensor([2], [-1], 1), /no storage, offset, shape and stride/],
    [
      'more bytes than a number counts, by strides of 0',
      op.tensor([2 ** 30, 2 ** 30], [0, 0]),
      /is too large/,
    ],
  ];
  for (const [name, value, pattern] of refused)
    test(`refused: ${name}`, () => assert.rejects(stored(value), refusal('TORCH_FILE_INVALID', pattern)));

  test('an axis of one element may have any stride: the tensor is contiguous', async () => {
    const tensor = await stored(op.tensor([1, 6], [99, 1]));
    assert.ok(isInFile(tensor));
  });

  /** `_rebuild_tensor_v3` of float32 elements over a storage of bytes. */
  const typed = (elements: number) =>
    op.call(
      'torch._utils._rebuild_tensor_v3',
      op.storage('torch.storage.UntypedStorage', 24),
      op.integer(0),
      op.extents([elements]),
      op.extents([1]),
      op.no,
      op.call('collections.OrderedDict'),
      op.global('torch.float32'),
    );
  test('elements over a storage of plain bytes', async () => {
    assert.deepEqual(await values(typed(6)), [0, 1, 2, 3, 4, 5]);
    await assert.rejects(stored(typed(7)), refusal('TORCH_FILE_INVALID', /past its storage of 6/));
  });

  test('a view with the signs turned is refused, one with the flag off is not', async () => {
    const withFlag = (flag: string) =>
      op.call(
        'torch._utils._rebuild_tensor_v2',
        op.storage('torch.FloatStorage', 6),
        ...[op.integer(0), op.extents([6]), op.extents([1]), op.no, op.call('collections.OrderedDict')],
        op.dict({ neg: flag }),
      );
    assert.equal((await values(withFlag(op.no))).length, 6);
    await assert.rejects(stored(withFlag(op.yes)), refusal('TORCH_FORMAT_UNSUPPORTED', /signs turned/));
  });

  test('a device is named with its number', () => {
    const { value } = unpickle(pickleOf(op.call('torch.device', op.text('cuda'), op.integer(1))), {
      file: 'x.pt',
      global: torchGlobal('x.pt'),
    });
    assert.equal(value, 'cuda:1');
  });
});

describe('a zip', () => {
  const good = pickleOf(op.tensor([6], [1]));
  const data = new Uint8Array(24);
  /** One byte more than there are before the next entry's bytes. */
  const past = good.length + 31 + 'a/data/0'.length;
  const refused: readonly (readonly [name: string, bytes: Buffer, code: ErrorCode, pattern: RegExp])[] = [
    [
      'a storage one byte too long',
      torchZip(good, { data: new Uint8Array(25) }),
      'TORCH_FILE_INVALID',
      /of 25 bytes/,
    ],
    [
      'a storage one byte too short',
      torchZip(good, { data: new Uint8Array(23) }),
      'TORCH_FILE_INVALID',
      /of 23 bytes/,
    ],
    ['a deflated storage', torchZip(good, { deflate: true }), 'TORCH_FORMAT_UNSUPPORTED', /compressed/],
    [
      'constants of TorchScript',
      torchZip(good, {}, [{ name: 'a/constants.pkl', data: good }]),
      'TORCH_FORMAT_UNSUPPORTED',
      /TorchScript/,
    ],
    [
      'numbers of a big-endian machine',
      torchZip(good, {}, [{ name: 'a/byteorder', data: latin1('big') }]),
      'TORCH_FORMAT_UNSUPPORTED',
      /big-endian/,
    ],
    [
      'an entry twice',
      torchZip(good, {}, [{ name: 'a/data.pkl', data: good }]),
      'TORCH_FILE_INVALID',
      /holds a\/data\.pkl twice/,
    ],
    [
      'an entry whose bytes the next one begins with',
      zip([
        { name: 'a/data.pkl', data: good, claims: { size: past, compressedSize: past } },
        { name: 'a/data/0', data },
      ]),
      'TORCH_FILE_INVALID',
      /overlaps the entry before it/,
    ],
    [
      'a pickle that says it has 64 MiB and a byte',
      zip([{ name: 'a/data.pkl', data: good, deflate: true, claims: { size: (64 << 20) + 1 } }]),
      'TORCH_FILE_INVALID',
      /the limit is 67108864/,
    ],
    [
      'a pickle that inflates to 64 MiB and a byte',
      zip([{ name: 'a/data.pkl', data: new Uint8Array((64 << 20) + 1), deflate: true, claims: { size: 9 } }]),
      'TORCH_FILE_INVALID',
      /the limit is 67108864/,
    ],
    [
      'a pickle of another CRC-32',
      zip([{ name: 'a/data.pkl', data: good, claims: { crc32: 1 } }]),
      'TORCH_FILE_INVALID',
      /CRC-32/,
    ],
  ];
  for (const [name, bytes, code, pattern] of refused)
    test(`refused: ${name}`, async () =>
      assert.rejects(readStored(await put(bytes)), refusal(code, pattern)));

  test('refused: an entry that ends a byte past the file', async () => {
    const whole = torchZip(good);
    const start = whole.indexOf(latin1('a/data/0')) + 'a/data/0'.length;
    const claiming = (size: number) => torchZip(good, { claims: { size, compressedSize: size } });
    const toTheEnd = whole.length - start;
    await assert.rejects(
      readStored(await put(claiming(toTheEnd))),
      refusal('TORCH_FILE_INVALID', new RegExp(`of ${toTheEnd} bytes, its 6 elements need 24`)),
    );
    const past = readStored(await put(claiming(toTheEnd + 1)));
    await assert.rejects(past, refusal('TORCH_FILE_INVALID', /reaches past the end of the file/));
  });

  test('refused: TorchScript, also by what reads an archive in a file', async () => {
    for (const name of ['a/constants.pkl', 'a/code/x.py'])
      await assert.rejects(
        readTorchZip(await put(torchZip(good, {}, [{ name, data: good }]))),
        refusal('TORCH_FORMAT_UNSUPPORTED', /TorchScript/),
      );
  });

  test('refused: an entry deflated in its header alone', async () => {
    const bytes = zip([{ name: 'a/data.pkl', data: good }]);
    bytes.writeUInt16LE(8, 8);
    await assert.rejects(readStored(await put(bytes)), refusal('TORCH_FILE_INVALID', /by method 8 before/));
    bytes.writeUInt16LE(0, 8);
    const central = bytes.indexOf(latin1('PK\x01\x02'));
    bytes.writeUInt16LE(8, central + 10);
    await assert.rejects(readStored(await put(bytes)), refusal('TORCH_FILE_INVALID', /by method 0 before/));
  });

  test('a part of a file is read where it lies, and refused where the file ends before it', async () => {
    const bytes = torchZip(good);
    const path = await put(Buffer.concat([latin1('before it'), bytes, latin1('behind it')]));
    const value = await readTorchZip(path, { offset: 9, length: bytes.length });
    assert.ok(value instanceof StridedTensor);
    const own = value.stored();
    assert.deepEqual(Array.from((await readTensor(own)).data as Float32Array), [0, 1, 2, 3, 4, 5]);
    const past = readTorchZip(path, { offset: 19, length: bytes.length });
    await assert.rejects(past, refusal('TORCH_FILE_INVALID', /so none of the archive/));
  });

  test('a pickle of hundreds of kilobytes is read', async () => {
    const entries = Array.from({ length: 3000 }, (_, i) => [`${'name'.repeat(20)}${i}`, op.none] as const);
    const value = await readTorchZip(await put(torchZip(pickleOf(op.dict(Object.fromEntries(entries))))));
    assert.ok(value instanceof Map && value.size === 3000);
  });

  test('more than 2¹⁸ entries are refused', async () => {
    await assert.rejects(
      readTorchZip(await put(zipOfEntries((1 << 18) + 1))),
      refusal('TORCH_FILE_INVALID', /more than 262144 entries/),
    );
  });

  test('no file stays open', async () => {
    const path = await put(torchZip(good));
    await leavesNoFilesOpen(async () => {
      await readStored(path);
      await readTensor(await stored(op.tensor([2, 3], [1, 2])));
      await assert.rejects(readStored(await put(torchZip(good, { name: 'x' }))), FormatError);
    });
  });
});

describe('the format before 1.6', () => {
  const int64 = (value: number) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    return bytes;
  };
  /** A storage's number of elements and its bytes, as they stand behind the pickles. */
  const storage = (elements: number, floats: readonly number[]) =>
    Buffer.concat([int64(elements), Buffer.from(new Float32Array(floats).buffer)]);
  const tensorOn = (key: string, elements: number) =>
    op.call(
      'torch._utils._rebuild_tensor_v2',
      op.storage('torch.FloatStorage', elements, key),
      ...[op.integer(0), op.extents([elements]), op.extents([1]), op.no, op.call('collections.OrderedDict')],
    );
  const keysOf = (...keys: readonly string[]) => op.list(...keys.map(op.text));
  const legacy = (value: string, keys: string, ...storages: readonly Uint8Array[]): Promise<string> =>
    put(Buffer.concat([latin1(LEGACY_HEAD), pickleOf(value), pickleOf(keys), ...storages]));
  const two = op.list(tensorOn('1', 2), tensorOn('2', 3));

  test('storages follow each other', async () => {
    const path = await legacy(two, keysOf('1', '2'), storage(2, [1, 2]), storage(3, [3, 4, 5]));
    const read = await Promise.all((await readStored(path)).map(readTensor));
    assert.deepEqual(
      read.map(({ data }) => Array.from(data as Float32Array)).toSorted(([a], [b]) => Number(a) - Number(b)),
      [
        [1, 2],
        [3, 4, 5],
      ],
    );
  });

  const refused: readonly (readonly [name: string, pattern: RegExp, path: () => Promise<string>])[] = [
    [
      'a file that ends a byte early',
      /storage 1, where the file ends/,
      () => legacy(tensorOn('1', 2), keysOf('1'), storage(2, [1, 2]).subarray(0, 15)),
    ],
    [
      'a storage of more elements than its tensor says',
      /has 3 elements, the pickle says 2/,
      () => legacy(tensorOn('1', 2), keysOf('1'), storage(3, [1, 2])),
    ],
    [
      'a storage of fewer',
      /has 1 elements, the pickle says 2/,
      () => legacy(tensorOn('1', 2), keysOf('1'), storage(1, [1, 2])),
    ],
    [
      'a storage behind one that is not as it should be',
      /in or after storage 1/,
      () =>
        // What belongs to storage 1 is dropped again; its description stays.
        legacy(
          `${tensorOn('2', 3)}${tensorOn('1', 2)}0`,
          keysOf('1', '2'),
          storage(9, [1, 2]),
          storage(3, [3, 4, 5]),
        ),
    ],
    [
      'a storage behind one of no tensor',
      /after a storage that belongs to no tensor/,
      () => legacy(tensorOn('2', 3), keysOf('1', '2'), storage(3, [3, 4, 5])),
    ],
    [
      'a storage described in two ways',
      /storage 1, which is described in two ways/,
      () => legacy(op.list(tensorOn('1', 2), tensorOn('1', 1)), keysOf('1'), storage(2, [1, 2])),
    ],
    [
      'a storage that is not listed',
      /storage 1, which is missing/,
      () => legacy(tensorOn('1', 2), keysOf(), storage(2, [1, 2])),
    ],
    ['no list of storages', /the list of storages is missing/, () => legacy(tensorOn('1', 2), op.none)],
  ];
  for (const [name, pattern, path] of refused)
    test(`refused: ${name}`, async () =>
      assert.rejects(readStored(await path()), refusal('TORCH_FILE_INVALID', pattern)));

  test('refused: another protocol, another byte order', async () => {
    const [magic, , system] = LEGACY_HEAD.split(/(?<=\.)(?=\x80)/) as [string, string, string];
    const rest = `\x80\x02N.\x80\x02].`;
    const other = await put(latin1(`${magic}\x80\x02M\xe8\x03.${system}${rest}`));
    await assert.rejects(readStored(other), refusal('TORCH_FILE_INVALID', /its protocol is not 1001/));
    const big = `\x80\x02${op.dict({ little_endian: op.no })}.`;
    const swapped = await put(latin1(`${magic}\x80\x02M\xe9\x03.${big}${rest}`));
    await assert.rejects(readStored(swapped), refusal('TORCH_FORMAT_UNSUPPORTED', /big-endian/));
  });

  test('pickles of hundreds of kilobytes are read', async () => {
    const names = Array.from({ length: 3000 }, (_, i) => [`${'name'.repeat(20)}${i}`, op.none] as const);
    const value = op.list(op.dict(Object.fromEntries(names)), tensorOn('1', 2));
    const [tensor] = await readStored(await legacy(value, keysOf('1'), storage(2, [1, 2])));
    assert.ok(tensor !== undefined);
  });

  test('no file stays open', async () => {
    await leavesNoFilesOpen(async () => {
      await readStored(await legacy(tensorOn('1', 2), keysOf('1'), storage(2, [1, 2])));
      await assert.rejects(readStored(await legacy(op.none, op.none)), FormatError);
    });
  });
});
