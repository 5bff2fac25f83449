/**
 * safetensors: an 8-byte little-endian header length, a JSON header, then the tensors' bytes without gaps. Readers
 * take the header only; tensors are read, mapped or streamed later.
 */
import { FormatError } from '../errors.ts';
import { openFile } from '../input-file.ts';
import { type OutputOptions, writeOutputFile } from '../output-file.ts';
import { type DType, elementBytes, elementCount, type FileTensor, type HostTensor } from '../tensor.ts';
import { identify, mistaken } from './file-kind.ts';
import { JsonFault, parseJson } from './json-text.ts';

/** The format's own bound on a header. */
const MAX_HEADER_BYTES = 100_000_000;

const MAX_RANK = 64;

const TRUNCATED = 'the file is truncated: copy or download it again';

/** What a header begins with. */
const OPEN_OBJECT = 0x7b;

const DTYPES: Readonly<Record<string, DType>> = {
  BOOL: 'bool',
  U8: 'uint8',
  I8: 'int8',
  F8_E4M3: 'float8_e4m3',
  F8_E5M2: 'float8_e5m2',
  I16: 'int16',
  U16: 'uint16',
  F16: 'float16',
  BF16: 'bfloat16',
  I32: 'int32',
  U32: 'uint32',
  F32: 'float32',
  I64: 'int64',
  U64: 'uint64',
  F64: 'float64',
};

const DTYPE_NAMES = new Map(Object.entries(DTYPES).map(([name, dtype]) => [dtype, name]));

export interface SafetensorsFile {
  /** In the order of their bytes. */
  readonly tensors: ReadonlyMap<string, FileTensor>;
  readonly metadata: Readonly<Record<string, string>>;
}

function invalid(
  file: string,
  message: string,
  tensor?: string,
  hint = 'the file is damaged, or was not written by safetensors',
): FormatError {
  const where = tensor === undefined ? file : `${file}, tensor ${tensor}`;
  return new FormatError('SAFETENSORS_INVALID', `${where}: ${message}`, {
    file,
    hint,
    ...(tensor === undefined ? {} : { tensor }),
  });
}

/** Metadata under this and a tensor's name is about that tensor. */
const ANNOTATION = 'hotrow.';

/**
 * Reads the header of one file.
 * @throws UsageError FILE_*; FormatError SAFETENSORS_INVALID naming file and tensor.
 */
export async function readSafetensors(file: string): Promise<SafetensorsFile> {
  const { text, fileBytes } = await readHeader(file);
  return laidOut(file, text, fileBytes);
}

/**
 * The tensors of bytes in memory, which messages call `name`: `file` and `byteOffset` are `name` and the place in the bytes.
 * @throws FormatError SAFETENSORS_INVALID naming the tensor.
 */
export function safetensorsIn(bytes: Uint8Array, name: string): SafetensorsFile {
  const { buffer, byteOffset, length } = bytes;
  const headerBytes = headerLength(name, new DataView(buffer, byteOffset, Math.min(length, 8)), length);
  return laidOut(name, bytes.subarray(8, 8 + headerBytes), length);
}

/** What a header's `text` says of a file. */
function laidOut(file: string, text: Uint8Array, fileBytes: number): SafetensorsFile {
  const header = parseHeader(file, text);
  const dataStart = 8 + text.length;
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw invalid(file, 'header is not an object');
  const metadata: Record<string, string> = Object.create(null);
  const tensors: [string, FileTensor][] = [];
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') Object.assign(metadata, readMetadata(file, entry));
    else tensors.push([name, readEntry(file, name, entry, dataStart)]);
  }
  tensors.sort(([, a], [, b]) => a.byteOffset - b.byteOffset || a.byteLength - b.byteLength);
  checkLayout(file, tensors, dataStart, fileBytes);
  const annotated = tensors.map(([name, tensor]): [string, FileTensor] => {
    const annotation = metadata[`${ANNOTATION}${name}`];
    return [name, annotation === undefined ? tensor : { ...tensor, annotation }];
  });
  return { tensors: new Map(annotated), metadata };
}

async function readHeader(file: string): Promise<{ text: Uint8Array; fileBytes: number }> {
  await using opened = await openFile(file);
  const { size } = opened;
  const prefix = Buffer.alloc(9);
  const bytesRead = await opened.read(prefix, 0, 9, 0);
  if (prefix[8] !== OPEN_OBJECT) await refuseOtherKinds(file);
  const view = new DataView(prefix.buffer, prefix.byteOffset, Math.min(bytesRead, 8));
  const headerBytes = headerLength(file, view, size);
  const text = Buffer.alloc(headerBytes);
  await opened.read(text, 0, headerBytes, 8);
  return { text, fileBytes: size };
}

/** The length of the header, which the first 8 bytes of `size` say. */
function headerLength(file: string, prefix: DataView, size: number): number {
  if (prefix.byteLength < 8) throw invalid(file, `${size} bytes are too few for a header`);
  const length = prefix.getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw invalid(file, `says its header has ${length} bytes, more than the format's ${MAX_HEADER_BYTES}`);
  }
  const headerBytes = Number(length);
  if (8 + headerBytes > size)
    throw invalid(file, `says its header has ${length} bytes, the file has ${size}`, undefined, TRUNCATED);
  return headerBytes;
}

function parseHeader(file: string, text: Uint8Array): unknown {
  try {
    return parseJson(new TextDecoder('utf-8', { fatal: true }).decode(text));
  } catch (cause) {
    if (cause instanceof JsonFault && cause.duplicate !== undefined)
      throw invalid(file, 'header names it twice', cause.duplicate);
    throw invalid(file, `header is not JSON: ${(cause as Error).message}`);
  }
}

/** Names the kind of a file whose header cannot be one's of safetensors. */
async function refuseOtherKinds(file: string): Promise<void> {
  const found = await identify(file);
  if (!['safetensors', 'binary'].includes(found.kind)) throw mistaken(file, found, 'safetensors');
}

function readMetadata(file: string, value: unknown): Record<string, string> {
  const strings =
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((text) => typeof text === 'string');
  if (!strings) throw invalid(file, '__metadata__ is not an object of strings');
  return value as Record<string, string>;
}

/** A value of a header as it may stand in a message, however large or deep it is. */
function preview(value: unknown): string {
  if (Array.isArray(value))
    return value.length <= 8
      ? `[${value.map((part) => (typeof part === 'object' ? '…' : String(part).slice(0, 30)))}]`
      : `a list of ${value.length}`;
  return typeof value === 'string'
    ? JSON.stringify(value.slice(0, 30))
    : value === null || typeof value !== 'object'
      ? String(value)
      : 'an object';
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function readEntry(file: string, name: string, entry: unknown, dataStart: number): FileTensor {
  if (typeof entry !== 'object' || entry === null) throw invalid(file, 'its entry is not an object', name);
  const { dtype: dtypeName, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  const dtype =
    typeof dtypeName === 'string' && Object.hasOwn(DTYPES, dtypeName) ? DTYPES[dtypeName] : undefined;
  if (dtype === undefined) {
    throw invalid(
      file,
      `dtype ${preview(dtypeName)} is not supported`,
      name,
      `dtypes are ${Object.keys(DTYPES).join(', ')}`,
    );
  }
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isCount))
    throw invalid(file, `shape ${preview(shape)} is not a list of extents`, name);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw invalid(file, `data_offsets ${preview(offsets)} are not two positions`, name);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = elementCount(shape) * elementBytes(dtype);
  if (!Number.isSafeInteger(bytes)) throw invalid(file, `shape [${shape}] is too large`, name);
  if (end - begin !== bytes) {
    throw invalid(
      file,
      `shape [${shape}] of ${dtypeName} needs ${bytes} bytes, data_offsets give ${end - begin}`,
      name,
    );
  }
  return { dtype, shape, file, byteOffset: dataStart + begin, byteLength: bytes };
}

/** Tensors follow each other without overlap or gap, and end where the file does. */
function checkLayout(
  file: string,
  tensors: readonly (readonly [string, FileTensor])[],
  dataStart: number,
  fileBytes: number,
): void {
  let end = dataStart;
  let before = 'the header';
  for (const [name, { byteOffset, byteLength }] of tensors) {
    if (byteOffset < end)
      throw invalid(file, `overlaps ${before} (begins at byte ${byteOffset}, before ${end})`, name);
    if (byteOffset > end)
      throw invalid(file, `leaves ${byteOffset - end} bytes unused after ${before}`, name);
    end = byteOffset + byteLength;
    before = name;
  }
  if (end > fileBytes) {
    throw invalid(
      file,
      `is ${end - fileBytes} bytes short`,
      tensors.find(([, t]) => t.byteOffset + t.byteLength > fileBytes)?.[0],
      TRUNCATED,
    );
  }
  if (end < fileBytes) throw invalid(file, `has ${fileBytes - end} bytes after its last tensor`);
}

/** A tensor that is made while it is written. */
export interface StreamedTensor {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** What metadata is to say of it. */
  readonly annotation?: string;
  /** Its bytes, in order. */
  readonly chunks: () => AsyncIterable<Uint8Array>;
}

/**
 * Writes tensors to a file, which appears only when it is whole. `sources`: files that the tensors come from.
 * @throws UsageError FILE_UNWRITABLE; what `chunks` throws.
 */
export async function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, HostTensor | StreamedTensor>,
  metadata: Readonly<Record<string, string>> = {},
  { sources = [] }: Pick<OutputOptions, 'sources'> = {},
): Promise<void> {
  let end = 0;
  const annotations = [...tensors].flatMap(([name, tensor]) =>
    'annotation' in tensor && tensor.annotation !== undefined
      ? [[`${ANNOTATION}${name}`, tensor.annotation]]
      : [],
  );
  const all = { ...metadata, ...Object.fromEntries(annotations) };
  const entries: [string, unknown][] = Object.keys(all).length === 0 ? [] : [['__metadata__', all]];
  for (const [name, tensor] of tensors) {
    const { dtype, shape } = tensor;
    const begin = end;
    end += 'data' in tensor ? tensor.data.byteLength : tensor.byteLength;
    entries.push([name, { dtype: DTYPE_NAMES.get(dtype), shape, data_offsets: [begin, end] }]);
  }
  const json = JSON.stringify(Object.fromEntries(entries));
  const padded = json.padEnd(json.length + ((8 - (Buffer.byteLength(json) % 8)) % 8));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(Buffer.byteLength(padded)));
  const parts = async function* () {
    yield prefix;
    yield Buffer.from(padded);
    for (const tensor of tensors.values()) {
      if (!('data' in tensor)) yield* tensor.chunks();
      else yield Buffer.from(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength);
    }
  };
  const bytes = prefix.length + Buffer.byteLength(padded) + end;
  await writeOutputFile(file, parts, { bytes, sources });
}
