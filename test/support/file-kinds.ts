/** A small file of every kind that src/formats tells apart: its magic, or a head as its programs write it. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { deflateRawSync, gzipSync } from 'node:zlib';
import type { Kind } from '../../src/formats/file-kind.ts';

const fixture = (name: string) =>
  readFileSync(fileURLToPath(new URL(`../fixtures/torch/${name}.pt`, import.meta.url)));
const latin1 = (text: string) => Buffer.from(text, 'latin1');
const zeros = (bytes: number) => Buffer.alloc(bytes);
const magic = (text: string, at = 0) => Buffer.concat([zeros(at), latin1(text), zeros(600)]);

/** A zip with these entries; checksums are left 0. */
export function smallZip(entries: Readonly<Record<string, string>>): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, data] of Object.entries(entries)) {
    const body = deflateRawSync(latin1(data));
    const header = zeros(30);
    header.write('PK\x03\x04', 'latin1');
    header.writeUInt16LE(8, 8);
    header.writeUInt32LE(body.length, 18);
    header.writeUInt32LE(data.length, 22);
    header.writeUInt16LE(name.length, 26);
    const central = zeros(46);
    central.write('PK\x01\x02', 'latin1');
    header.copy(central, 10, 8, 28);
    central.writeUInt16LE(name.length, 28);
    central.writeUInt32LE(at, 42);
    directory.push(central, latin1(name));
    parts.push(header, latin1(name), body);
    at += 30 + name.length + body.length;
  }
  const central = Buffer.concat(directory);
  const end = zeros(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(Object.keys(entries).length, 8);
  end.writeUInt16LE(Object.keys(entries).length, 10);
  end.writeUInt32LE(central.length, 12);
  end.writeUInt32LE(at, 16);
  return Buffer.concat([...parts, central, end]);
}

/** A safetensors file of one-element float32 tensors. */
export function safetensorsOf(...names: readonly string[]): Buffer {
  const entries = names.map((name, i) => [
    name,
    { dtype: 'F32', shape: [1], data_offsets: [4 * i, 4 * i + 4] },
  ]);
  const json = latin1(JSON.stringify(Object.fromEntries(entries)));
  const prefix = zeros(8);
  prefix.writeUInt32LE(json.length);
  return Buffer.concat([prefix, json, zeros(4 * names.length)]);
}

/** A field of a protocol buffer that holds bytes. */
function field(number: number, value: Buffer): Buffer {
  const length = value.length < 128 ? [value.length] : [(value.length & 0x7f) | 0x80, value.length >> 7];
  return Buffer.concat([Buffer.of(number * 8 + 2, ...length), value]);
}

const node = (name: string, operator: string) =>
  field(1, Buffer.concat([field(1, latin1(name)), field(2, latin1(operator))]));

export const CRITEO_ROW = ['1', ...Array(13).fill('2'), ...Array(26).fill('05db9164')];

/** Files by kind; the first of each is an ordinary one. */
export const FILES: Readonly<Record<Kind, readonly Buffer[]>> = {
  safetensors: [
    safetensorsOf('emb_l.0.weight', 'bot_l.0.weight'),
    safetensorsOf(),
    safetensorsOf('dense.0.weight'),
  ],
  'safetensors-request': [
    safetensorsOf('dense', 'indices.0', 'offsets.0'),
    safetensorsOf('indices', 'offsets'),
    safetensorsOf('values', 'lengths'),
    safetensorsOf('user.dense'),
    safetensorsOf('dense.age', 'values.genre', 'lengths.genre'),
  ],
  'safetensors-index': [latin1('{"metadata": {"total_size": 8}, "weight_map": {"a": "1.safetensors"}}')],
  torch: [fixture('module.zip'), smallZip({ 'archive/data.pkl': '\x80\x02}.', 'archive/version': '3\n' })],
  'torch-legacy': [fixture('module.legacy')],
  criteo: [
    latin1(`${CRITEO_ROW.join('\t')}\n`),
    latin1(`${CRITEO_ROW.slice(1).join('\t')}\n`),
    latin1(`${CRITEO_ROW.join(',')}\r\n`),
    latin1('Label,I1,I2,C1,C2\n'),
    latin1('label\tint_0\tint_1\tcat_0\n'),
  ],
  'json-request': [
    latin1('{"samples": [{"features": {"genre": [1]}}]}'),
    latin1('{"dense": [1, 2], "features": {}}'),
    latin1('{"user": {}, "candidates": []}'),
  ],
  'json-lines': [latin1('{"a": 1}\n{"a": 2}\n'), latin1('[1, 2]\n[3]\n')],
  trace: [latin1('5\n0\n500000\n5\n'), latin1('\r\n7\r\n8\r\n'), latin1('7')],
  results: [latin1('{"version": 1, "kind": "bench", "hotrow": "0.1.0"}')],
  plan: [latin1('{"version": 1, "device": "cpu", "kernel": "standard", "techniques": {"kind": 1}}')],
  vocabulary: [latin1('[["", "a"], ["b"]]'), latin1('[[], ["b"]]')],
  'model-description': [
    latin1('{"kind": "model", "version": 1, "checkpoint": "a.pt"}'),
    latin1(`{"kind": "model", "checkpoint": "${'x'.repeat(100_000)}", "version": 1}`),
  ],
  json: [latin1('{"architectures": ["BertModel"]}'), latin1('[]'), latin1('{"nested": {"weight_map": {}}}')],
  empty: [zeros(0), latin1('\n \r\n')],
  'lfs-pointer': [latin1('version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n')],
  html: [latin1('<!DOCTYPE html>\n<html><body>404</body></html>'), latin1('\n<html lang="en">')],
  xml: [latin1('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')],
  'pickle-text': [latin1("(dp0\nS'a'\np1\nI1\ns."), latin1('cos\nsystem\n(Vtrue\ntR.')],
  numbers: [latin1('5.000000000000000000e+00\n1.0e+00\n'), latin1('-3\n2\n')],
  table: [latin1('a,b\n1,2\n'), latin1('user\titem\trating\n1\t2\t3\n')],
  text: [latin1('# A model\n\nIt ranks, and well.\n'), latin1('caf\xe9\n'), latin1('[section]\nkey = 1\n')],
  'utf16-text': [Buffer.from('\ufeff1\n2\n', 'utf16le')],
  onnx: [
    magic('\x08\x06\x12\x07pytorch\x1a\x041.7:'),
    magic('\x08\x08\x12\x07pytorch\x1a\x052.1.0:\x86\x14\n\x10\n\x01x'),
    Buffer.concat([Buffer.of(8, 9), field(7, field(1, field(1, latin1('x')))), field(8, Buffer.of(16, 17))]),
  ],
  torchscript: [
    smallZip({ 'm/data.pkl': '.', 'm/code/__torch__.py': '', 'm/constants.pkl': '.', 'm/version': '3' }),
  ],
  'torch-export': [
    smallZip({ 'serialized_exported_program.json': '{}', 'serialized_state_dict.pt': '' }),
    smallZip({ 'm/archive_format': 'pt2', 'm/models/model.json': '{}', 'm/data/weights/w': '' }),
  ],
  'torch-package': [
    smallZip({ 'p/.data/version': '6', 'p/.data/extern_modules': 'torch', 'p/m/data.pkl': '.' }),
  ],
  pickle: [
    latin1('\x80\x02}q\x00X\x01\x00\x00\x00aK\x01s.'),
    latin1('\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}.'),
  ],
  hdf5: [magic('\x89HDF\r\n\x1a\n')],
  keras: [smallZip({ 'metadata.json': '{}', 'config.json': '{}', 'model.weights.h5': '' })],
  'tensorflow-saved-model': [
    Buffer.concat([Buffer.of(8, 1), field(2, field(1, field(5, latin1('2.15.0'))))]),
  ],
  'tensorflow-graph': [Buffer.concat([node('input/x', 'Placeholder'), node('w', 'Const')])],
  'tensorflow-checkpoint': [
    latin1('model_checkpoint_path: "ckpt-1"\nall_model_checkpoint_paths: "ckpt-1"\n'),
    Buffer.concat([Buffer.of(0, 0, 1, 2, 3, 0xff), zeros(80), Buffer.from('57fb808b247547db', 'hex')]),
  ],
  tflite: [magic('TFL3', 4)],
  tensorrt: [magic('ftrt')],
  gguf: [magic('GGUF\x03')],
  npz: [smallZip({ 'emb_l.0.weight.npy': '\x93NUMPY', 'X_int.npy': '\x93NUMPY' })],
  npy: [magic("\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (7, 4), }\n")],
  parquet: [Buffer.concat([magic('PAR1\x15\x04'), latin1('PAR1')])],
  arrow: [magic('ARROW1\0\0\xff\xff\xff\xff'), magic('FEA1')],
  avro: [magic('Obj\x01\x04\x14avro.codec\x08null')],
  orc: [magic('ORC\x08\x01')],
  // A record of 5 bytes: the checksum of its length is what TensorFlow writes.
  tfrecord: [Buffer.concat([Buffer.from('0500000000000000eab2043e', 'hex'), latin1('hello'), zeros(4)])],
  sqlite: [magic('SQLite format 3\0\x10\x00')],
  matlab: [magic('MATLAB 5.0 MAT-file, Platform: GLNXA64')],
  gzip: [gzipSync(gzipSync('1\n2\n'))],
  zstd: [magic('\x28\xb5\x2f\xfd\x24')],
  xz: [magic('\xfd7zXZ\0\0\x04')],
  bzip2: [magic('BZh91AY&SY\xd2')],
  lz4: [magic('\x04\x22\x4d\x18\x64')],
  snappy: [magic('\xff\x06\0\0sNaPpY')],
  '7z': [magic('7z\xbc\xaf\x27\x1c\0\x04')],
  rar: [magic('Rar!\x1a\x07\x01\0')],
  tar: [magic('ustar\0', 257), Buffer.concat([latin1('model.pt'), magic('ustar  ', 249)])],
  zip: [smallZip({ 'model/readme.txt': 'x', 'model/model.pt': 'x' }), smallZip({})],
  office: [smallZip({ '[Content_Types].xml': '<x/>', 'xl/workbook.xml': '<x/>' })],
  pdf: [latin1('%PDF-1.7\n%\xe2\xe3\xcf\xd3\n'), latin1('%PDF-1.4\n1 0 obj\n')],
  png: [magic('\x89PNG\r\n\x1a\n')],
  jpeg: [magic('\xff\xd8\xff\xe0\0\x10JFIF')],
  gif: [magic('GIF89a\x10\0')],
  elf: [magic('\x7fELF\x02\x01\x01')],
  binary: [Buffer.from(Array.from({ length: 4096 }, (_, i) => (i * 31 + 7) & 0xff)), Buffer.of(0, 1, 2)],
};
