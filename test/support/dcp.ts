/** Folders of torch.distributed.checkpoint for tests: the metadata as plain objects, changed at will, and pickled. */
import { copyFileSync, mkdtempSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A folder, or the file whole.pt, that test/fixtures/dcp/make.py made. */
export const dcpFixture = (name: string): string =>
  fileURLToPath(new URL(`../fixtures/dcp/${name}`, import.meta.url));

/** A Python object: what it is made by, with these arguments, and its state. */
export interface Instance {
  module: string;
  name: string;
  args: unknown[];
  state?: unknown;
}

/** A class or function by itself. */
export interface Named {
  global: string;
}

const METADATA = 'torch.distributed.checkpoint.metadata';

const instance = (name: string, attributes: object, module = METADATA): Instance => ({
  module,
  name,
  args: [],
  state: new Map(Object.entries(attributes)),
});

export const size = (...extents: (number | bigint)[]): Instance => ({
  module: 'torch',
  name: 'Size',
  args: [extents],
});

export interface DcpChunk {
  offsets: Instance;
  sizes: Instance;
}

export interface DcpTensor {
  dtype: string;
  layout?: string;
  size: Instance;
  chunks: DcpChunk[];
}

export interface DcpItem {
  fqn: string;
  offset: Instance | null;
  relative_path: string;
  start: number | bigint;
  length: number | bigint;
  transform_descriptors?: string[];
}

/** What a `.metadata` says; 'bytes' stands for an entry that is no tensor. */
export interface DcpDescription {
  tensors: Map<string, DcpTensor | 'bytes'>;
  items: DcpItem[];
  planner?: Map<string, string[]>;
}

/** A checkpoint of one table `t` [7, 4] in two chunks of rows: the chunks of the fixture `sharded_tensor`. */
export const twoShards = (): DcpDescription => ({
  tensors: new Map([
    [
      't',
      {
        dtype: 'float32',
        size: size(7, 4),
        chunks: [
          { offsets: size(0, 0), sizes: size(4, 4) },
          { offsets: size(4, 0), sizes: size(3, 4) },
        ],
      },
    ],
  ]),
  items: [
    { fqn: 't', offset: size(0, 0), relative_path: '__0_0.distcp', start: 0, length: 1641 },
    { fqn: 't', offset: size(4, 0), relative_path: '__1_0.distcp', start: 0, length: 1577 },
  ],
});

/** The objects that PyTorch would pickle. */
export function metadataObject({ tensors, items, planner }: DcpDescription): Instance {
  const entries = [...tensors].map(([name, tensor]): [string, Instance] => {
    if (tensor === 'bytes') return [name, instance('BytesStorageMetadata', {})];
    const layout = {
      module: 'torch.serialization',
      name: '_get_layout',
      args: [tensor.layout ?? 'torch.strided'],
    };
    const encoding = { module: METADATA, name: '_MEM_FORMAT_ENCODING', args: [0] };
    const properties: Instance = {
      ...instance('TensorProperties', {}),
      state: [{ global: `torch ${tensor.dtype}` }, layout, false, encoding, false],
    };
    const chunks = tensor.chunks.map((chunk) => instance('ChunkStorageMetadata', chunk));
    return [
      name,
      instance('TensorStorageMetadata', {
        properties,
        size: tensor.size,
        chunks,
      }),
    ];
  });
  const places = items.map(({ fqn, offset, start, length, relative_path, transform_descriptors }, index) => {
    const key = instance('MetadataIndex', { fqn, index, ...(offset === null ? {} : { offset }) });
    const info = {
      relative_path,
      offset: start,
      length,
      ...(transform_descriptors === undefined ? {} : { transform_descriptors }),
    };
    return [key, instance('_StorageInfo', info, 'torch.distributed.checkpoint.filesystem')] as const;
  });
  const path = { module: 'pathlib', name: 'PosixPath', args: ['/', 'tmp'] };
  return instance('Metadata', {
    state_dict_metadata: new Map(entries),
    planner_data:
      planner === undefined ? null : new Map([...planner].map(([name, keys]) => [name, { tuple: keys }])),
    storage_data: new Map(places),
    storage_meta: instance('StorageMeta', { checkpoint_id: path, save_id: 'x', load_id: null, modules: [] }),
    version: '1.0.0',
  });
}

/** A pickle of numbers, texts, lists, Maps, Instances and Named. */
export function pickle(value: unknown): Buffer {
  const parts: Buffer[] = [Buffer.from([0x80, 2])];
  const text = (opcodes: string) => parts.push(Buffer.from(opcodes, 'latin1'));
  const write = (item: unknown): void => {
    if (item === null || item === undefined) text('N');
    else if (typeof item === 'boolean') text(item ? '\x88' : '\x89');
    else if (typeof item === 'bigint' || Number.isInteger(item)) text(`L${item}L\n`);
    else if (typeof item === 'number') text(`F${item}\n`);
    else if (typeof item === 'string') {
      const bytes = Buffer.from(item);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(bytes.length);
      parts.push(Buffer.from('X'), length, bytes);
    } else if (Array.isArray(item)) list(item, 'l');
    else if (item instanceof Map) {
      text('(');
      for (const [key, entry] of item) {
        write(key);
        write(entry);
      }
      text('d');
    } else if ('tuple' in (item as object)) list((item as { tuple: unknown[] }).tuple, 't');
    else if ('global' in (item as object)) text(`c${(item as Named).global.replace(' ', '\n')}\n`);
    else object(item as Instance);
  };
  const list = (items: readonly unknown[], end: string) => {
    text('(');
    for (const item of items) write(item);
    text(end);
  };
  const object = ({ module, name, args, state }: Instance) => {
    text(`c${module}\n${name}\n`);
    list(args, 't');
    text(name === 'Size' || args.length > 0 ? 'R' : '\x81');
    if (state === undefined) return;
    write(state);
    text('b');
  };
  write(value);
  text('.');
  return Buffer.concat(parts);
}

/** A new folder in `parent` with the `.distcp` files of a fixture and this `.metadata`; gives the metadata's path. */
export function putCheckpoint(
  parent: string,
  metadata: DcpDescription | Buffer,
  shards = dcpFixture('sharded_tensor'),
): string {
  const folder = mkdtempSync(join(parent, 'dcp-'));
  for (const name of readdirSync(shards))
    if (name.endsWith('.distcp')) copyFileSync(join(shards, name), join(folder, name));
  const file = join(folder, '.metadata');
  writeFileSync(file, Buffer.isBuffer(metadata) ? metadata : pickle(metadataObject(metadata)));
  return file;
}
