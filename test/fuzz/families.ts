/** Families of files: small valid ones to begin with, and what reads them. */
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { HotrowError } from '../../src/errors.ts';
import { readJsonFile } from '../../src/formats/json-file.ts';
import { writeSafetensors } from '../../src/formats/safetensors.ts';
import { unpickle } from '../../src/formats/torch/pickle.ts';
import { readStorageId } from '../../src/formats/torch/storage-id.ts';
import { torchGlobal } from '../../src/formats/torch/torch-globals.ts';
import { type DlrmArchitecture, inputsOf } from '../../src/model/architecture.ts';
import { loadCheckpoint } from '../../src/model/checkpoint/checkpoint.ts';
import { inferArchitecture } from '../../src/model/infer-architecture.ts';
import { loadArchitecture } from '../../src/model/load-model.ts';
import { readRequest } from '../../src/model/request/safetensors-request.ts';
import { plainPlan, readPlan } from '../../src/plan/plan.ts';
import { renderReport } from '../../src/report/page.ts';
import { readResults } from '../../src/report/read-results.ts';
import { readTensor } from '../../src/stored-tensor.ts';
import type { HostTensor, StoredTensors } from '../../src/tensor.ts';
import { readCriteo } from '../../src/workload/criteo.ts';
import { readRequestFile } from '../../src/workload/request-file.ts';
import { readTrace } from '../../src/workload/trace.ts';
import { trafficSources } from '../../src/workload/traffic/sources.ts';
import { tableLookups } from '../../src/workload/traffic/table-lookups.ts';
import { recordedCharacterization } from '../report/results.ts';
import { facebookTensors, torchrecTensors } from '../support/checkpoints.ts';
import { firstSample, jsonInputs, secondSample } from '../support/json-requests.ts';
import { formInputs, plainRequest, weightedRequest } from '../support/request-tensors.ts';
import { savedTensors } from '../support/torch-files.ts';

/** Files that are read together, by name; the first is the one that is named, unless it is `folder`. */
export type Files = Readonly<Record<string, Buffer>>;

export interface Family {
  readonly name: string;
  /** What is changed; each is read as it is, too. */
  readonly seeds: () => Promise<readonly Files[]>;
  /** Reads the named file, as the commands do. */
  readonly read: (path: string) => Promise<unknown>;
  /** The folder itself is named. */
  readonly folder?: true;
}

const FIXTURES = fileURLToPath(new URL('../fixtures', import.meta.url));

const fixtures = (folder: string, pattern: RegExp): Files[] =>
  readdirSync(join(FIXTURES, folder))
    .filter((name) => pattern.test(name))
    .map((name) => ({ [name]: readFileSync(join(FIXTURES, folder, name)) }));

/** What `write` writes to a file. */
async function written(write: (file: string) => Promise<unknown>): Promise<Buffer> {
  const folder = await mkdtemp(join(tmpdir(), 'hotrow-fuzz-seed-'));
  try {
    await write(join(folder, 'x'));
    return await readFile(join(folder, 'x'));
  } finally {
    await rm(folder, { recursive: true });
  }
}

const safetensors = (tensors: ReadonlyMap<string, HostTensor>, metadata = {}) =>
  written((file) => writeSafetensors(file, tensors, metadata));
const text = (...lines: readonly unknown[]) =>
  Buffer.from(
    `${lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n')}\n`,
  );

async function readSmall(tensors: StoredTensors): Promise<void> {
  for (const tensor of tensors.values()) if (tensor.byteLength <= 1 << 20) await readTensor(tensor);
}

async function readCheckpoint(path: string): Promise<void> {
  const { tensors, order } = await loadCheckpoint(path);
  await readSmall(tensors);
  // Most of these files hold no DLRM.
  await inferArchitecture(tensors, { order }).catch((error: unknown) => {
    if (!(error instanceof HotrowError)) throw error;
  });
}

async function readDescribed(path: string): Promise<void> {
  await readSmall((await loadArchitecture(path)).tensors);
}

const MODEL: Pick<DlrmArchitecture, 'naming' | 'tables' | 'denseFeatures' | 'inputs'> = {
  naming: 'dlrm',
  denseFeatures: 2,
  tables: ['0', '1', '2'].map((name) => ({
    name,
    rows: 10,
    dim: 4,
    rowFormat: 'float32',
    mode: 'sum',
    weight: { dtype: 'float32', shape: [10, 4], data: new Float32Array(40) },
  })),
  inputs: jsonInputs,
};

const criteoRow = (separator: string) =>
  ['1', ...Array.from({ length: 13 }, (_, i) => String(i)), ...Array(26).fill('68fd1e64')].join(separator);
const CRITEO_HEADER = [
  'label',
  ...Array.from({ length: 13 }, (_, i) => `I${i + 1}`),
  ...Array.from({ length: 26 }, (_, i) => `C${i + 1}`),
].join(',');
const TABLE_ROWS = Array.from({ length: 26 }, (_, t) => 10 + t);

const criteo = (): Files[] => [
  { 'rows.tsv': text(criteoRow('\t'), criteoRow('\t')) },
  { 'rows.csv': text(CRITEO_HEADER, criteoRow(','), criteoRow(',')) },
];
const traces = (): Files[] => [
  { 'trace.txt': text('1', '2', '30000', '1') },
  { 'two.txt': Buffer.from('7\r\n8') },
];
const jsonRequests = (): Files[] => [
  { 'one.json': text(firstSample) },
  { 'many.json': text({ samples: [firstSample, secondSample] }) },
  { 'users.json': text({ user: { features: { ads: [1] } }, candidates: [{ dense: [1, 2] }, secondSample] }) },
  { 'lines.jsonl': text(firstSample, secondSample) },
];
const datasets = (): Files[] => fixtures('torch', /^(bags|dtypes)\.(zip|legacy)\.pt$/);

const readTraffic = async (path: string) => {
  for (const source of await trafficSources([path]))
    await tableLookups(source, { model: MODEL as DlrmArchitecture, limit: 100 });
};

const description = (checkpoint: string) =>
  text({
    kind: 'model',
    version: 1,
    checkpoint,
    tables: ['0', '1', '2'].map((name) => ({ name })),
    features: [
      { name: 'ads', table: '0', pooling: 'mean' },
      { name: 'city', table: '1', ids: { vocabulary: 'v.json' }, missing: { ids: ['a'] } },
      { name: 'hashed', table: '2', ids: { hash: 'xxhash64', seed: 0, modulus: 8 } },
    ],
    dense: ['x', 'y', 'z'].map((name) => ({ name, preprocessing: 'log(x + 3)' })),
    triangle: 'lower',
    names: Object.fromEntries([
      ['emb_l.{name}.weight', 'tables.{name}.weight'],
      ...['weight', 'bias'].flatMap((end) => [
        [`bot_l.{2i}.${end}`, `bottom.{i}.${end}`],
        [`top_l.{2i}.${end}`, `top.{i}.${end}`],
      ]),
    ]),
  });

export const FAMILIES: readonly Family[] = [
  {
    name: 'safetensors',
    seeds: async () => [
      { 'a.safetensors': await safetensors(facebookTensors()) },
      {
        'b.safetensors': await safetensors(torchrecTensors({ tables: ['t_a', 't_b'] }), {
          'hotrow:tables': '["t_b","t_a"]',
        }),
      },
    ],
    read: readCheckpoint,
  },
  {
    name: 'torch-zip',
    seeds: async () => [
      ...fixtures('torch', /\.zip\.pt$|protocol5|script/),
      ...fixtures('torch211', /\.pt$/),
      ...fixtures('dcp', /whole\.pt/),
    ],
    read: readCheckpoint,
  },
  { name: 'torch-legacy', seeds: async () => fixtures('torch', /\.legacy\.pt$/), read: readCheckpoint },
  {
    name: 'pickle',
    seeds: async () => [
      ...fixtures('torch', /\.pkl$|\.legacy\.pt$/),
      ...['one', 'two', 'grid', 'torch113', 'sharded_tensor'].flatMap((name) =>
        fixtures(`dcp/${name}`, /^\.metadata$/),
      ),
    ],
    read: async (path) => {
      const bytes = await readFile(path);
      const persistentLoad = (id: unknown) => readStorageId(id as object, () => () => 64);
      for (let offset = 0; offset < bytes.length; ) {
        const { value, end } = unpickle(bytes, {
          file: path,
          offset,
          global: torchGlobal(path),
          persistentLoad,
        });
        for (const tensor of savedTensors(value)) tensor.stored('t');
        offset = end;
      }
    },
  },
  {
    name: 'dcp',
    folder: true,
    seeds: async () =>
      ['one', 'two', 'grid', 'torch113', 'sharded_tensor', 'huggingface'].map((name) =>
        Object.assign({}, ...fixtures(`dcp/${name}`, /./)),
      ),
    read: readCheckpoint,
  },
  {
    name: 'index',
    folder: true,
    seeds: async () => {
      const all = [...facebookTensors()];
      const parts = [all.slice(0, 5), all.slice(5)];
      const files = ['model-1.safetensors', 'model-2.safetensors'];
      const map = Object.fromEntries(parts.flatMap((part, i) => part.map(([name]) => [name, files[i]])));
      const [first, second] = await Promise.all(parts.map((part) => safetensors(new Map(part))));
      const index = text({ metadata: { total_size: 1000, alias: 'emb_l.0.weight' }, weight_map: map });
      return [
        {
          'model.safetensors.index.json': index,
          'model-1.safetensors': first as Buffer,
          'model-2.safetensors': second as Buffer,
        },
      ];
    },
    read: readCheckpoint,
  },
  {
    name: 'request',
    seeds: async () => [
      { 'a.safetensors': await safetensors(new Map(Object.entries(plainRequest))) },
      { 'b.safetensors': await safetensors(new Map(Object.entries(weightedRequest))) },
      ...fixtures('requests', /\.safetensors$/),
    ],
    read: async (path) => {
      await readRequestFile(path, { ...MODEL, inputs: formInputs });
      await readRequest(path);
    },
  },
  {
    name: 'request-json',
    seeds: async () => jsonRequests(),
    read: (path) => readRequestFile(path, { ...MODEL, inputs: inputsOf({ ...MODEL } as DlrmArchitecture) }),
  },
  {
    name: 'description',
    seeds: async () => [
      {
        'm.hotrow.json': description('m.safetensors'),
        'm.safetensors': await safetensors(facebookTensors()),
        'v.json': text(['a', 'b']),
      },
    ],
    read: readDescribed,
  },
  {
    name: 'plan',
    seeds: async () => [
      { 'cpu.json': text(plainPlan('cpu')) },
      { 'cuda.json': text(plainPlan('cuda')) },
      {
        'groups.json': text({
          ...plainPlan('cuda'),
          techniques: { prefetch: { into: 'registers', distance: 6 } },
          groups: [{ dim: 4, rowFormat: 'float32', techniques: {} }],
        }),
      },
    ],
    read: readPlan,
  },
  {
    name: 'trace',
    seeds: async () => traces(),
    read: async (path) => [await readTrace(path), await readTraffic(path)],
  },
  {
    name: 'criteo',
    seeds: async () => criteo(),
    read: (path) => readCriteo(path, { tableRows: TABLE_ROWS, preprocessing: 'log(1 + max(x, 0))' }),
  },
  { name: 'dlrm-datasets', seeds: async () => datasets(), read: readTrace },
  {
    name: 'gzip',
    seeds: async () =>
      [...traces(), ...criteo(), ...jsonRequests(), ...datasets()].map((files) =>
        Object.fromEntries(Object.entries(files).map(([name, bytes]) => [`${name}.gz`, gzipSync(bytes)])),
      ),
    read: readTraffic,
  },
  {
    name: 'vocabulary',
    seeds: async () => [
      {
        'v.json': text(Array.from({ length: 26 }, () => ['68fd1e64', 'b'])),
        'rows.tsv': text(criteoRow('\t')),
      },
    ],
    read: async (path) => {
      await readJsonFile(path, 'ids').catch(() => {});
      await readCriteo(join(path, '../rows.tsv'), { vocabulary: path, preprocessing: 'log(x + 3)' });
    },
  },
  {
    name: 'results',
    seeds: async () => [
      { 'a.json': readFileSync(new URL('../../bench/results/cpu-zen5-1-table-run1.json', import.meta.url)) },
      { 'b.json': readFileSync(new URL('../../bench/results/cpu-zen5-dense.json', import.meta.url)) },
      { 'c.json': text(recordedCharacterization('h200-counters-int8.json')) },
    ],
    read: async (path) => renderReport([await readResults(path)]),
  },
];
