/** The kinds of files that are told apart: what begins them, what they are called, and what makes use of them. */
import type { FormatErrorCode } from '../../errors.ts';

/** What a file is wanted for. */
export type Purpose =
  | 'model'
  | 'description'
  | 'ids'
  | 'safetensors'
  | 'torch'
  | 'request'
  | 'trace'
  | 'traffic'
  | 'criteo'
  | 'results'
  | 'plan'
  | 'model-settings'
  | 'vocabulary';

/** What to do with a file where something else is wanted; `any` where no purpose has its own. */
type Remedies = Readonly<Partial<Record<Purpose | 'any', string>>>;

interface KindFacts {
  /** With its article: "an ONNX model". */
  readonly called: string;
  /** Bytes (as latin1) that stand at a place in every such file; one of several. */
  readonly magic?: readonly (readonly [at: number, bytes: string])[];
  readonly remedies?: Remedies;
}

const TRAINED = 'load the PyTorch model that it was made from, and torch.save(model.state_dict(), path)';
const SWAPPED_REQUEST = 'a checkpoint holds the parameters of a model: are model and request swapped?';
const SWAPPED_MODEL =
  'a request holds dense, indices.{t} and offsets.{t}, written with safetensors.torch.save_file: are model and request swapped?';
const INTEGERS = "one row index a line: numpy.savetxt(path, indices, fmt='%d')";

/** Arrays by name or alone. */
const arrays = (load: string): Remedies => ({
  model: `write ${load} with safetensors.numpy.save_file, each under the parameter's name that a checkpoint has`,
  request: `write ${load} with safetensors.numpy.save_file, as dense, indices.{t} and offsets.{t}`,
  trace: `write ${load} as text, ${INTEGERS}`,
  criteo: `write ${load} as text, tab-separated: a label, 13 numbers and 26 categories a line`,
});

/** Tables of rows and columns. */
const columns = (load: string): Remedies => {
  const rows = `write the rows as text: ${load}.to_csv(path, sep='\\t', index=False)`;
  return { request: rows, criteo: rows, trace: `write the column of row indices as text, ${INTEGERS}` };
};

const PICKLED: Remedies = {
  ...arrays('what pickle.load gives'),
  model:
    'nothing in it was executed; save the parameters with torch.save(model.state_dict(), path), arrays of numpy as tensors: torch.from_numpy(array)',
};

const unpack = (how: string): Remedies => ({ any: `unpack it first: ${how}` });

/** Every kind. Magics are tried in this order. */
export const KINDS = {
  // What Hotrow reads.
  safetensors: {
    called: 'a safetensors file',
    remedies: { request: SWAPPED_MODEL, trace: 'a checkpoint is no traffic: pass it as the MODEL' },
  },
  'safetensors-request': { called: 'a request (safetensors)', remedies: { model: SWAPPED_REQUEST } },
  'safetensors-index': { called: 'an index of safetensors shards', remedies: { request: SWAPPED_MODEL } },
  torch: { called: 'a PyTorch file (torch.save)', remedies: { request: SWAPPED_MODEL } },
  'torch-legacy': { called: 'a PyTorch file (torch.save, legacy)', remedies: { request: SWAPPED_MODEL } },
  criteo: {
    called: 'Criteo rows (a label, 13 numbers, 26 categories)',
    remedies: { model: SWAPPED_REQUEST, trace: `write one category's rows as text, ${INTEGERS}` },
  },
  'json-request': { called: 'a request (JSON)', remedies: { model: SWAPPED_REQUEST } },
  'json-lines': { called: 'a JSON Lines file', remedies: { model: SWAPPED_REQUEST } },
  trace: { called: 'a text trace (one row index a line)' },
  results: {
    called: 'results of `hotrow bench` or `hotrow characterize`',
    remedies: { any: '`hotrow report` shows results' },
  },
  plan: { called: 'a plan', remedies: { any: '--plan takes plans' } },
  vocabulary: { called: 'a vocabulary', remedies: { any: '--vocabulary takes vocabularies' } },
  'model-description': {
    called: 'a model description',
    remedies: { any: 'it stands in the place of a checkpoint: hotrow predict NAME.hotrow.json REQUEST' },
  },
  json: { called: 'a JSON file' },

  // Other text.
  empty: { called: 'empty', remedies: { any: 'copy or download the file again' } },
  'lfs-pointer': {
    called: 'a Git LFS pointer',
    magic: [[0, 'version https://git-lfs']],
    remedies: { any: 'fetch the file itself with git lfs pull' },
  },
  html: { called: 'a web page', remedies: { any: 'download the file itself: this is a page about it' } },
  xml: { called: 'an XML file' },
  'pickle-text': {
    called: 'a pickle (protocol 0) that torch.save did not write',
    remedies: PICKLED,
  },
  numbers: { called: 'a list of numbers, one a line' },
  table: { called: 'a text table' },
  text: { called: 'a text file' },
  'utf16-text': {
    called: 'a text file in UTF-16',
    magic: [
      [0, '\xff\xfe'],
      [0, '\xfe\xff'],
    ],
    remedies: { any: 'save it as UTF-8' },
  },

  // Models of other programs.
  onnx: { called: 'an ONNX model', remedies: { model: TRAINED } },
  torchscript: {
    called: 'a TorchScript archive, which holds code',
    remedies: { model: 'save the parameters alone: torch.save(model.state_dict(), path)' },
  },
  'torch-export': { called: 'a torch.export program (.pt2)', remedies: { model: TRAINED } },
  'torch-package': { called: 'a torch.package archive', remedies: { model: TRAINED } },
  pickle: {
    called: 'a pickle that torch.save did not write',
    remedies: PICKLED,
  },
  hdf5: {
    called: 'an HDF5 file (.h5)',
    magic: [[0, '\x89HDF\r\n\x1a\n']],
    remedies: arrays('the arrays that h5py.File(path) holds'),
  },
  keras: {
    called: 'a Keras model (.keras)',
    remedies: arrays('the weights that keras.saving.load_model(path) gives'),
  },
  'tensorflow-saved-model': {
    called: 'a TensorFlow SavedModel',
    remedies: arrays('the variables that tf.saved_model.load gives'),
  },
  'tensorflow-graph': {
    called: 'a TensorFlow graph (.pb)',
    remedies: arrays('the variables of the checkpoint that belongs to it'),
  },
  'tensorflow-checkpoint': {
    called: 'a part of a TensorFlow checkpoint',
    magic: [[0, 'model_checkpoint_path:']],
    remedies: arrays('the variables that tf.train.load_checkpoint gives'),
  },
  tflite: { called: 'a TensorFlow Lite model', magic: [[4, 'TFL3']], remedies: { model: TRAINED } },
  tensorrt: { called: 'a TensorRT engine', magic: [[0, 'ftrt']], remedies: { model: TRAINED } },
  gguf: { called: 'a GGUF model', magic: [[0, 'GGUF']], remedies: { model: TRAINED } },

  // Arrays and tables.
  npz: {
    called: 'a NumPy archive (.npz)',
    remedies: arrays('what numpy.load gives'),
  },
  npy: {
    called: 'a NumPy array (.npy)',
    magic: [[0, '\x93NUMPY']],
    remedies: arrays('what numpy.load gives'),
  },
  parquet: {
    called: 'a Parquet file',
    magic: [
      [0, 'PAR1'],
      [0, 'PARE'],
    ],
    remedies: columns('pandas.read_parquet(path)'),
  },
  arrow: {
    called: 'an Arrow file (Feather)',
    magic: [
      [0, 'ARROW1'],
      [0, 'FEA1'],
    ],
    remedies: columns('pandas.read_feather(path)'),
  },
  avro: {
    called: 'an Avro file',
    magic: [[0, 'Obj\x01']],
    remedies: columns("fastavro's rows as a DataFrame"),
  },
  orc: { called: 'an ORC file', magic: [[0, 'ORC']], remedies: columns('pandas.read_orc(path)') },
  tfrecord: { called: 'a TFRecord file', remedies: columns('its examples as a DataFrame') },
  sqlite: {
    called: 'an SQLite database',
    magic: [[0, 'SQLite format 3\0']],
    remedies: columns('pandas.read_sql(query, connection)'),
  },
  matlab: {
    called: 'a MATLAB file (.mat)',
    magic: [[0, 'MATLAB 5.0 MAT-file']],
    remedies: arrays('what scipy.io.loadmat gives'),
  },

  // What packs other files.
  // Only what stands in another gzip file: of others, what they inflate to is looked at.
  gzip: { called: 'a gzip file', magic: [[0, '\x1f\x8b\x08']], remedies: unpack('gunzip') },
  zstd: {
    called: 'a Zstandard-compressed file',
    magic: [[0, '\x28\xb5\x2f\xfd']],
    remedies: unpack('zstd -d'),
  },
  xz: { called: 'an xz-compressed file', magic: [[0, '\xfd7zXZ\0']], remedies: unpack('xz -d') },
  bzip2: { called: 'a bzip2-compressed file', magic: [[4, '1AY&SY']], remedies: unpack('bzip2 -d') },
  lz4: { called: 'an LZ4-compressed file', magic: [[0, '\x04\x22\x4d\x18']], remedies: unpack('lz4 -d') },
  snappy: {
    called: 'a Snappy-compressed file',
    magic: [[0, '\xff\x06\0\0sNaPpY']],
    remedies: unpack('snzip -d'),
  },
  '7z': { called: 'a 7-Zip archive', magic: [[0, '7z\xbc\xaf\x27\x1c']], remedies: unpack('7z x') },
  rar: { called: 'a RAR archive', magic: [[0, 'Rar!\x1a\x07']], remedies: unpack('unrar x') },
  tar: {
    called: 'a tar archive',
    magic: [[257, 'ustar']],
    remedies: {
      any: 'unpack it first: tar xf',
      model:
        "unpack it first: tar xf; if it is a checkpoint of PyTorch before 0.1.10, save it again with today's",
    },
  },
  zip: { called: 'a zip archive', remedies: unpack('unzip') },
  office: { called: 'an Office document', remedies: { any: 'export what it holds as text' } },

  // The rest.
  pdf: { called: 'a PDF document', magic: [[0, '%PDF-']] },
  png: { called: 'a PNG image', magic: [[0, '\x89PNG\r\n\x1a\n']] },
  jpeg: { called: 'a JPEG image', magic: [[0, '\xff\xd8\xff']] },
  gif: { called: 'a GIF image', magic: [[0, 'GIF8']] },
  elf: { called: 'an executable or a library', magic: [[0, '\x7fELF']] },
  binary: { called: 'a binary file of no kind that is known' },
} as const satisfies Readonly<Record<string, KindFacts>>;

export type Kind = keyof typeof KINDS;

/** A kind's facts, without the narrowness of the table's own type. */
export function factsOf(kind: Kind): KindFacts {
  return KINDS[kind];
}

interface PurposeFacts {
  /** With its article: "a checkpoint". */
  readonly called: string;
  /** The kinds that are read for it; their readers say what else is wrong with one. */
  readonly reads: readonly Kind[];
  /** And of these, the ones that may be gzipped. */
  readonly gzipped: readonly Kind[];
  /** What helps where a kind has no remedy of its own. */
  readonly hint: string;
  /** Whose remedies help; default: its own. */
  readonly remediesOf?: Purpose;
  /** The error for other kinds; default: FORMAT_UNKNOWN. */
  readonly code?: FormatErrorCode;
}

/** Text without a meaning of its own: a reader of lines says which line is wrong. */
const LINES = ['trace', 'numbers', 'table', 'text', 'empty'] as const;

const REQUESTS = ['criteo', 'table', 'json-request', 'json-lines', 'json'] as const;

export const PURPOSES: Readonly<Record<Purpose, PurposeFacts>> = {
  model: {
    called: 'a checkpoint',
    reads: ['safetensors', 'safetensors-index', 'torch', 'torch-legacy'],
    gzipped: [],
    hint: 'a checkpoint is .safetensors, or a .pt of torch.save(model.state_dict(), path)',
  },
  description: {
    called: 'a model description',
    reads: ['model-description', 'results', 'json'],
    gzipped: [],
    hint: 'hotrow inspect MODEL --write-description FILE writes one; docs/model-description.md lists its members',
  },
  ids: {
    called: 'a list of ids',
    reads: ['json', 'vocabulary'],
    gzipped: [],
    hint: 'a vocabulary of a feature is a JSON list of strings or of integers, in row order',
  },
  safetensors: {
    called: 'a safetensors file',
    reads: ['safetensors', 'safetensors-request'],
    gzipped: [],
    hint: 'copy the file again, or write it again with safetensors',
    remediesOf: 'model',
    code: 'SAFETENSORS_INVALID',
  },
  torch: {
    called: 'a file of torch.save',
    reads: ['torch', 'torch-legacy'],
    gzipped: [],
    hint: 'save it with torch.save(model.state_dict(), path)',
    remediesOf: 'model',
    code: 'TORCH_FORMAT_UNSUPPORTED',
  },
  request: {
    called: 'a request',
    reads: ['safetensors-request', ...REQUESTS],
    gzipped: REQUESTS,
    hint: 'a request is a safetensors file with dense, indices.{t} and offsets.{t}, JSON, or rows of Criteo',
  },
  trace: {
    called: 'a trace',
    reads: [...LINES, 'torch', 'torch-legacy'],
    gzipped: [...LINES, 'torch', 'torch-legacy'],
    hint: 'a trace has one row index a line, or is a dlrm_datasets file',
  },
  traffic: {
    called: 'traffic',
    reads: ['safetensors-request', ...REQUESTS, ...LINES, 'torch', 'torch-legacy'],
    gzipped: [...REQUESTS, ...LINES, 'torch', 'torch-legacy'],
    hint: 'traffic is a trace (one row index a line), a dlrm_datasets file, a request, Criteo rows, or a folder of requests',
    remediesOf: 'trace',
  },
  criteo: {
    called: 'Criteo rows',
    reads: [...LINES, 'criteo'],
    gzipped: [...LINES, 'criteo'],
    hint: 'Criteo rows have a label, 13 numbers and 26 categories, tab- or comma-separated',
  },
  results: {
    called: 'results',
    reads: ['results', 'json'],
    gzipped: [],
    hint: 'results come from `hotrow bench --json FILE` and `hotrow characterize --json FILE`',
  },
  plan: {
    called: 'a plan',
    reads: ['plan', 'json'],
    gzipped: [],
    hint: 'plans come from `hotrow tune`; docs/plans.md shows one',
  },
  'model-settings': {
    called: "a model's settings",
    reads: ['json', 'results'],
    gzipped: [],
    hint: 'docs/model-repository.md shows a settings.json and lists its members',
  },
  vocabulary: {
    called: 'a vocabulary',
    reads: ['vocabulary', 'json'],
    gzipped: [],
    hint: 'a vocabulary is JSON: per field C1–C26, the category strings in row order',
  },
};
