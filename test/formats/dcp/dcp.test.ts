import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { readDcp } from '../../../src/formats/dcp/dcp.ts';
import { loadCheckpoint } from '../../../src/model/checkpoint/checkpoint.ts';
import { readBytes, readTensor } from '../../../src/stored-tensor.ts';
import { isInFile, type StoredTensor } from '../../../src/tensor.ts';
import {
  type DcpDescription,
  type DcpTensor,
  dcpFixture,
  metadataObject,
  pickle,
  putCheckpoint,
  size,
  twoShards,
} from '../../support/dcp.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-dcp-'));
});
after(() => rm(folder, { recursive: true }));

const metadataOf = (fixture: string) => join(dcpFixture(fixture), '.metadata');

/** The model that every fixture holds, as torch.save wrote it whole. */
const whole = () => loadCheckpoint(dcpFixture('whole.pt'));

async function same(
  tensor: StoredTensor | undefined,
  expected: StoredTensor | undefined,
  name: string,
): Promise<void> {
  assert.ok(tensor !== undefined && expected !== undefined, name);
  assert.deepEqual(await readTensor(tensor), await readTensor(expected), name);
}

async function refuses(
  metadata: DcpDescription | Buffer,
  code: HotrowError['code'],
  pattern: RegExp,
  shards?: string,
): Promise<void> {
  await assert.rejects(readDcp(putCheckpoint(folder, metadata, shards)), (error: unknown) => {
    assert.ok(error instanceof HotrowError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, pattern);
    return true;
  });
}

/** A change of the checkpoint with one table in two chunks. */
function changed(change: (table: DcpTensor, description: DcpDescription) => void): DcpDescription {
  const description = twoShards();
  change(description.tensors.get('t') as DcpTensor, description);
  return description;
}

describe('what PyTorch saved', () => {
  test('one process: every tensor is mapped where it lies', async () => {
    const { tensors, keys } = await readDcp(metadataOf('one'));
    const expected = await whole();
    const names = [...expected.tensors.keys()].map((name) => `model.${name}`);
    assert.deepEqual([...tensors.keys()], [...names, 'step'], 'no optimizer, nothing that is no tensor');
    assert.deepEqual(keys.get('model.emb_l.0.weight'), ['model', 'emb_l.0.weight']);
    for (const [name, tensor] of expected.tensors) {
      const stored = tensors.get(`model.${name}`);
      assert.ok(stored !== undefined && isInFile(stored) && basename(stored.file) === '__0_0.distcp', name);
      await same(stored, tensor, name);
    }
  });

  test('two processes: rows divided unevenly, columns, rows of which one has none, and not divided', async () => {
    const { tensors } = await readDcp(metadataOf('two'));
    const expected = await whole();
    assert.deepEqual(
      [...tensors.keys()],
      [...expected.tensors.keys()].map((name) => `app.model.${name}`),
    );
    for (const [name, tensor] of expected.tensors) await same(tensors.get(`app.model.${name}`), tensor, name);
    const [rows, columns, first, replicated] = [0, 1, 2, 3].map((t) =>
      tensors.get(`app.model.emb_l.${t}.weight`),
    );
    for (const divided of [rows, columns]) {
      assert.ok(divided !== undefined && !isInFile(divided));
      assert.deepEqual(
        divided.files.map((file) => basename(file)),
        ['__0_0.distcp', '__1_0.distcp'],
      );
    }
    for (const inOnePiece of [first, replicated]) assert.ok(inOnePiece !== undefined && isInFile(inOnePiece));
  });

  test('ShardedTensor', async () => {
    const { tensors } = await readDcp(metadataOf('sharded_tensor'));
    await same(
      tensors.get('emb_l.0.weight'),
      (await whole()).tensors.get('emb_l.0.weight'),
      'emb_l.0.weight',
    );
  });

  test('a grid of four processes', async () => {
    const { tensors } = await readDcp(metadataOf('grid'));
    const read = async (name: string) => readTensor(tensors.get(name) as StoredTensor);
    const ramp = Float32Array.from({ length: 35 }, (_, i) => i);
    assert.deepEqual([...tensors.keys()], ['grid', 'replicated_rows', 'few_rows', 'scalar', 'none']);
    assert.deepEqual(await read('grid'), { dtype: 'float32', shape: [7, 5], data: ramp });
    assert.deepEqual(await read('replicated_rows'), { dtype: 'float32', shape: [5, 7], data: ramp });
    // bfloat16 is the upper half of float32.
    const halves = Uint16Array.from(new Uint32Array(ramp.buffer).subarray(0, 15), (bits) => bits >>> 16);
    assert.deepEqual(await read('few_rows'), { dtype: 'bfloat16', shape: [3, 5], data: halves });
    assert.deepEqual(await read('scalar'), { dtype: 'int64', shape: [], data: BigInt64Array.of(5n) });
    assert.deepEqual(await read('none'), { dtype: 'float32', shape: [0, 4], data: new Float32Array(0) });
  });

  test('the first form of the format, of PyTorch 1.13', async () => {
    const { tensors } = await readDcp(metadataOf('torch113'));
    assert.deepEqual([...tensors.keys()], ['emb_l.0.weight', 'bot_l.0.bias']);
    const { shape, data } = await readTensor(tensors.get('emb_l.0.weight') as StoredTensor);
    assert.deepEqual([shape, [...data]], [[7, 4], Array.from({ length: 28 }, (_, i) => i)]);
  });

  test('the first form of the format, of PyTorch 1.13, a file a tensor', async () => {
    const { tensors } = await readDcp(metadataOf('torch113'));
    assert.deepEqual([...tensors.keys()], ['emb_l.0.weight', 'bot_l.0.bias']);
    const { shape, data } = await readTensor(tensors.get('emb_l.0.weight') as StoredTensor);
    assert.deepEqual([shape, [...data]], [[7, 4], Array.from({ length: 28 }, (_, i) => i)]);
  });

  test('bytes of a divided tensor are read from any place on', async () => {
    const { tensors } = await readDcp(metadataOf('grid'));
    const all = new Uint8Array(Float32Array.from({ length: 35 }, (_, i) => i).buffer);
    for (const [at, length] of [
      [0, 140],
      [3, 30],
      [17, 1],
      [61, 79],
      [140, 0],
    ] as const) {
      const into = new Uint8Array(length);
      await readBytes(tensors.get('grid') as StoredTensor, into, at);
      assert.deepEqual(into, all.slice(at, at + length), `${length} bytes at ${at}`);
    }
  });

  test('what is left aside is not opened', async () => {
    const bytes = await readFile(metadataOf('one'));
    const file = putCheckpoint(folder, bytes, dcpFixture('one'));
    const shard = join(dirname(file), '__0_0.distcp');
    const contents = await readFile(shard);
    // The entries that are no tensors come first in the file; the model's first tensor begins at byte 3783.
    contents.fill(0xff, 0, 3783);
    await writeFile(shard, contents);
    assert.equal((await readDcp(file)).tensors.size, 13);
  });
});

describe('names', () => {
  const named = (keys: string[] | undefined, name: string): DcpDescription => {
    const description = changed((table, { tensors }) => {
      tensors.clear();
      tensors.set(name, table);
    });
    for (const item of description.items) item.fqn = name;
    if (keys !== undefined) description.planner = new Map([[name, keys]]);
    return description;
  };
  const namesOf = async (keys: string[] | undefined, name: string) => [
    ...(await readDcp(putCheckpoint(folder, named(keys, name)))).tensors.keys(),
  ];

  test('what lies in a dict named for an optimizer is left out', async () => {
    assert.deepEqual(await namesOf(['app', 'optim', 'state', 'w.sum'], 'app.optim.state.w.sum'), []);
    assert.deepEqual(await namesOf(['optimizer_state_dict', 'w'], 'optimizer_state_dict.w'), []);
    assert.deepEqual(await namesOf(undefined, 'optimizer.state.w'), []);
  });

  test('a parameter may be named so', async () => {
    assert.deepEqual(await namesOf(['model', 'optimal.weight'], 'model.optimal.weight'), [
      'model.optimal.weight',
    ]);
    assert.deepEqual(await namesOf(['optimum'], 'optimum'), ['optimum']);
    assert.deepEqual(await namesOf(undefined, 'model.optimal.weight'), ['model.optimal.weight']);
  });

  test("tensors stand in the planner's order, which is the state dict's", async () => {
    const description = changed((table, { tensors }) => {
      const none: DcpTensor = { ...table, size: size(0, 4), chunks: [] };
      tensors.set('a', none);
      tensors.set('b', none);
    });
    const order = async () => [...(await readDcp(putCheckpoint(folder, description))).tensors.keys()];
    assert.deepEqual(await order(), ['t', 'a', 'b']);
    description.planner = new Map(['b', 'gone', 't'].map((name) => [name, [name]]));
    assert.deepEqual(await order(), ['b', 't', 'a']);
  });
});

describe('chunks that do not fit', () => {
  test('the checkpoint of these tests is good', async () => {
    const { tensors } = await readDcp(putCheckpoint(folder, twoShards()));
    await same(tensors.get('t'), (await whole()).tensors.get('emb_l.0.weight'), 't');
  });

  test('a hole, an overlap, and one that reaches out', async () => {
    const hole = changed(({ chunks }) => chunks.pop());
    await refuses(hole, 'DCP_INVALID', /\.metadata, tensor t: its chunks leave 12 of its 28 elements out/);
    const overlap = changed(({ chunks }, { items }) => {
      (chunks[1] as { offsets: unknown }).offsets = size(3, 0);
      (items[1] as { offset: unknown }).offset = size(3, 0);
    });
    await refuses(
      overlap,
      'DCP_INVALID',
      /tensor t: its chunks \[4, 4\] at \[0, 0\] and \[3, 4\] at \[3, 0\] overlap/,
    );
    const out = changed((table) => {
      table.size = size(6, 4);
    });
    await refuses(
      out,
      'DCP_INVALID',
      /tensor t: its chunk \[3, 4\] at \[4, 0\] reaches out of its shape \[6, 4\]/,
    );
  });

  test('absurd sizes', async () => {
    for (const extent of [2n ** 62n, 2n ** 80n, 2 ** 52, -1n, 1.5]) {
      const absurd = changed((table) => {
        table.size = size(extent as number, 4);
      });
      await refuses(absurd, 'DCP_INVALID', /tensor t: its size is no list of extents, or is too large/);
    }
    const deep = changed((table) => {
      table.size = size(...Array<number>(65).fill(1));
    });
    await refuses(deep, 'DCP_INVALID', /tensor t: its size/);
    // As large as a number holds: more than the archives have.
    const large = changed((table) => {
      table.size = size(2 ** 40, 4);
      table.chunks = [{ offsets: size(0, 0), sizes: size(2 ** 40, 4) }];
    });
    await refuses(
      large,
      'DCP_INVALID',
      /tensor t: its chunk at \[0, 0\].* needs 17592186044416 bytes, storage_data gives it 1641/,
    );
  });

  test('more chunks than any job has processes', () =>
    refuses(
      changed((table) => {
        table.chunks = Array<DcpTensor['chunks'][0]>(16_385).fill({ offsets: size(0, 0), sizes: size(0, 4) });
      }),
      'DCP_INVALID',
      /tensor t: it has no list of at most 16384 chunks/,
    ));

  test('a chunk without its place, or with none that can be', async () => {
    const missing = changed((_, { items }) => items.pop());
    await refuses(
      missing,
      'DCP_INVALID',
      /tensor t: storage_data does not say where its chunk at \[4, 0\] is/,
    );
    const twice = changed((_, { items }) => items.push({ ...(items[0] as DcpDescription['items'][0]) }));
    await refuses(twice, 'DCP_INVALID', /tensor t: storage_data has its chunk at \[0,0\] twice/);
    for (const place of [
      { start: -1 },
      { start: 2n ** 62n },
      { length: 2n ** 53n },
      { relative_path: 7 as never },
    ]) {
      const bad = changed((_, { items }) => Object.assign(items[1] as object, place));
      await refuses(
        bad,
        'DCP_INVALID',
        /tensor t: storage_data has no file, offset and length for its chunk at \[4, 0\]/,
      );
    }
  });

  test('two chunks over the same bytes', async () => {
    const same = changed((_, { items }) => {
      (items[1] as DcpDescription['items'][0]).relative_path = '__0_0.distcp';
    });
    await refuses(same, 'DCP_INVALID', /tensor t: a chunk overlaps one of tensor t in __0_0\.distcp/);
  });

  test('an archive that holds something else than the metadata says', async () => {
    const other = changed((table) => {
      table.dtype = 'int32';
    });
    await refuses(
      other,
      'DCP_INVALID',
      /tensor t: .*__0_0\.distcp: a chunk at byte 0 is float32 \[4, 4\], \.metadata says int32 \[4, 4\]/,
    );
    const swapped = changed((_, { items }) => {
      const [a, b] = items as [DcpDescription['items'][0], DcpDescription['items'][0]];
      [a.relative_path, b.relative_path] = [b.relative_path, a.relative_path];
      [a.length, b.length] = [b.length, a.length];
    });
    await refuses(
      swapped,
      'DCP_INVALID',
      /a chunk at byte 0 is float32 \[3, 4\], \.metadata says float32 \[4, 4\]/,
    );
  });

  test('dtypes, layouts and transformations that are not read', async () => {
    const dtype = changed((table) => {
      table.dtype = 'complex64';
    });
    await refuses(dtype, 'TORCH_FORMAT_UNSUPPORTED', /tensor t: dtype torch\.complex64 is not read/);
    const sparse = changed((table) => {
      table.layout = 'torch.sparse_coo';
    });
    await refuses(sparse, 'TORCH_FORMAT_UNSUPPORTED', /tensor t: its layout is not strided/);
    const compressed = changed((_, { items }) => {
      (items[1] as DcpDescription['items'][0]).transform_descriptors = ['zstd'];
    });
    await refuses(
      compressed,
      'TORCH_FORMAT_UNSUPPORTED',
      /tensor t: its chunk at \[4, 0\] was saved through an extension, zstd/,
    );
  });
});

describe('files', () => {
  const at = (path: string) =>
    changed((_, { items }) => {
      (items[1] as DcpDescription['items'][0]).relative_path = path;
    });

  test('a shard that is missing is named with the tensor', () =>
    refuses(
      at('__2_0.distcp'),
      'FILE_NOT_FOUND',
      /no such file: .*__2_0\.distcp, which holds a chunk of tensor t/,
    ));

  test('a path out of the folder', async () => {
    for (const path of ['../x.distcp', '/etc/passwd', 'a/../../x', '..', '', 'C:\\x', 'x\0'])
      await refuses(at(path), 'DCP_INVALID', /tensor t: its file .* lies outside of the checkpoint's folder/);
    await refuses(at('.metadata/x'), 'FILE_UNREADABLE', /\.metadata\/x/);
  });

  test('a link out of the folder', async () => {
    const file = putCheckpoint(folder, at('link.distcp'));
    await symlink(join(dcpFixture('sharded_tensor'), '__1_0.distcp'), join(dirname(file), 'link.distcp'));
    await assert.rejects(readDcp(file), {
      code: 'DCP_INVALID',
      message: /tensor t: its file "link.distcp" lies outside/,
    });
    // A link within the folder is as good as the file.
    await rm(join(dirname(file), 'link.distcp'));
    await symlink('__1_0.distcp', join(dirname(file), 'link.distcp'));
    assert.equal((await readDcp(file)).tensors.size, 1);
  });

  test('a folder in the place of a file', async () => {
    await refuses(at('./sub/..'), 'DCP_INVALID', /tensor t: its file .* lies outside|is no file/);
  });

  test('a truncated shard', async () => {
    const file = putCheckpoint(folder, twoShards());
    await truncate(join(dirname(file), '__1_0.distcp'), 1500);
    await assert.rejects(readDcp(file), {
      code: 'FILE_TRUNCATED',
      message: /__1_0\.distcp has 1500 bytes, a chunk of tensor t ends at byte 1577/,
    });
  });

  test('a shard whose archive is damaged', async () => {
    const file = putCheckpoint(folder, twoShards());
    await writeFile(join(dirname(file), '__1_0.distcp'), new Uint8Array(1577));
    await assert.rejects(readDcp(file), {
      code: 'TORCH_FILE_INVALID',
      message: /tensor t: .*__1_0\.distcp: the zip is damaged/,
    });
  });
});

describe('metadata that is none', () => {
  test('no pickle', async () => {
    await refuses(
      Buffer.from('not a pickle'),
      'PICKLE_INVALID',
      /\.metadata: the pickle is damaged at byte 0/,
    );
    await refuses(Buffer.alloc(0), 'PICKLE_INVALID', /damaged at byte 0: it ends early/);
    await refuses(pickle(metadataObject(twoShards())).subarray(0, 500), 'PICKLE_INVALID', /ends early/);
  });

  test('a pickle of something else', async () => {
    await refuses(pickle(new Map([['a', 1]])), 'DCP_INVALID', /does not describe a checkpoint/);
    await refuses(
      pickle({ ...metadataObject(twoShards()), name: 'Other' }),
      'DCP_INVALID',
      /does not describe/,
    );
  });

  test('nothing in it is called', () =>
    refuses(pickle({ module: 'os', name: 'system', args: ['true'] }), 'DCP_INVALID', /does not describe/));

  test('an entry that is no description of a tensor', async () => {
    const object = metadataObject(twoShards());
    const entries = (object.state as Map<string, unknown>).get('state_dict_metadata') as Map<
      unknown,
      unknown
    >;
    entries.set('x', 5);
    await refuses(pickle(object), 'DCP_INVALID', /tensor x: it is described as no tensor/);
    entries.delete('x');
    entries.set(7, 5);
    await refuses(pickle(object), 'DCP_INVALID', /a name that is no text/);
  });
});
