/** Servers in this process, whose threads run what the sources are now. */
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
// @ts-expect-error: a script, without types
import { buildPage } from '../../scripts/build-page.mjs';
// @ts-expect-error: a script, without types
import { FOR_NODE } from '../../scripts/esbuild-options.mjs';
import { DEFAULT_FRONT_LIMITS, type FrontLimits } from '../../src/serve/door.ts';
import { FolderCatalog } from '../../src/serve/repository/folder-catalog.ts';
import { type ServeOptions, Server, type ServerEvent } from '../../src/serve/server.ts';
import type { HostTensor } from '../../src/tensor.ts';
import { torchrecTensors, values, writeCheckpoint } from './checkpoints.ts';
import { Random } from './random.ts';
import { NAMES, type Said } from './request-forms.ts';

const path = (url: URL) => fileURLToPath(url);
const root = path(new URL('../..', import.meta.url));

/** A folder that looks like the package, but for its dist/. */
function packageFolder(): string {
  mkdirSync(join(root, '.tests'), { recursive: true });
  const folder = mkdtempSync(join(root, '.tests', 'served-'));
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
  copyFileSync(join(root, 'package.json'), join(folder, 'package.json'));
  for (const shared of ['kernels', 'schemas']) symlinkSync(join(root, shared), join(folder, shared));
  return folder;
}

/** Builds the commands, and the programs of their threads. @returns where they are. */
async function buildDist(): Promise<string> {
  const dist = join(packageFolder(), 'dist');
  mkdirSync(dist);
  symlinkSync(join(root, 'dist/native'), join(dist, 'native'));
  await build({
    absWorkingDir: root,
    entryPoints: {
      'cli/main': path(new URL('../../src/cli/main.ts', import.meta.url)),
      'serve/engine-thread': path(new URL('../../src/serve/engine/engine-thread.ts', import.meta.url)),
      'serve/http-thread': path(new URL('../../src/serve/http/http-thread.ts', import.meta.url)),
    },
    outdir: dist,
    ...FOR_NODE,
    splitting: true,
    sourcemap: true,
    logLevel: 'warning',
  });
  await buildPage(root, join(dist, 'serve/page.js'));
  return dist;
}

/** As it is built, where scripts/test.mjs has built it. */
const { HOTROW_TEST_MAIN: builtMain } = process.env;
const dist = builtMain === undefined ? await buildDist() : join(dirname(builtMain), '..');

/** A copy of the package, to be changed. */
export function copyPackage(): string {
  const folder = packageFolder();
  cpSync(dist, join(folder, 'dist'), { recursive: true });
  return folder;
}

/** What runs `hotrow`, with the threads of the sources. */
export const SERVING_COMMAND: readonly [string, string] = [process.execPath, join(dist, 'cli/main.js')];
/** What the threads of a server run. */
export const programs = {
  engine: join(dist, 'serve/engine-thread.js'),
  front: join(dist, 'serve/http-thread.js'),
  page: join(dist, 'serve/page.js'),
};

const models = mkdtempSync(join(tmpdir(), 'hotrow-served-'));
process.on('exit', () => rmSync(models, { recursive: true, force: true }));

const DENSE = ['x', 'y'];

/** A checkpoint of tables of 6, 7, … rows, which takes two numbers, and its description. Models of other seeds give other answers. */
async function modelFile(
  name: string,
  tables: number,
  members: object,
  {
    folder = models,
    seed = 13,
    first,
  }: { readonly folder?: string; readonly seed?: number; readonly first?: HostTensor } = {},
): Promise<string> {
  const names = Array.from({ length: tables }, (_, t) => `t${t}`);
  const tensors = torchrecTensors({ tables: names });
  tensors.set('dense_arch.model._mlp.0._linear.weight', values(new Random(seed), 5, DENSE.length));
  if (first !== undefined)
    tensors.set('sparse_arch.embedding_bag_collection.embedding_bags.t0.weight', first);
  await writeCheckpoint(join(folder, `${name}.safetensors`), tensors);
  const description = join(folder, `${name}.hotrow.json`);
  const least = { kind: 'model', version: 1, checkpoint: `${name}.safetensors` };
  writeFileSync(description, JSON.stringify({ ...least, ...members }));
  return description;
}

/** Rows of table 0; table t has t more. */
export const FIRST_ROWS = 6;

const ROWS = {
  features: NAMES.map((name, t) => ({ name, table: `t${t}` })),
  dense: DENSE.map((name) => ({ name, preprocessing: 'none' })),
};

/** A model with a feature of each of NAMES, whose ids are rows. */
export const rowsModel = await modelFile('rows', NAMES.length, ROWS);

/** Another one, for the same requests, in a folder of its own. */
export async function writeRowsModel(
  folder: string,
  seed: number,
  { firstRows = FIRST_ROWS } = {},
): Promise<string> {
  mkdirSync(folder, { recursive: true });
  const first = values(new Random(seed), firstRows, 4);
  return modelFile('rows', NAMES.length, ROWS, { folder, seed, first });
}

export const CITIES = ['Bonn', 'Köln', 'Ulm', 'Rom', 'Oslo', 'Bern', 'Wien', '東京'];

/** A model of rows, hashed ids, and strings; raw numbers become logarithms; its outputs are logits too. */
export const idsModel = await modelFile('ids', 3, {
  features: [
    { name: 'ads', table: 't0' },
    { name: 'person', table: 't1', ids: { hash: 'xxhash64', seed: 3, modulus: 7 } },
    { name: 'city', table: 't2', ids: { vocabulary: CITIES }, unknown: { row: 0 }, missing: 'empty' },
  ],
  dense: DENSE.map((name) => ({ name, preprocessing: 'log(x + 3)' })),
  output: 'logit',
});

/** Requests for `rowsModel`; numbers are whole, as some forms of `forms` need them. */
export function saidBy(random: Random, samples: number, { weighted = false, even = false } = {}): Said {
  return {
    dense: Array.from({ length: samples }, () => DENSE.map(() => random.integer(-2, 2))),
    bags: NAMES.map((_, t) =>
      Array.from({ length: samples }, () =>
        Array.from({ length: even ? 2 : random.integer(0, 4) }, () => random.integer(0, FIRST_ROWS + t - 1)),
      ),
    ),
    weighted,
  };
}

export type Overrides = Partial<Omit<ServeOptions, 'models' | 'limits'>> & {
  readonly models?: Readonly<Record<string, string>>;
  /** A folder of models, instead of those. */
  readonly repository?: string;
  readonly limits?: Partial<FrontLimits>;
};

export interface Served extends AsyncDisposable {
  readonly server: Server;
  readonly port: number;
  readonly events: readonly ServerEvent[];
}

/** A server on a free port; models by name. */
export async function serve({
  models = { rows: rowsModel },
  repository,
  limits = {},
  ...others
}: Overrides = {}): Promise<Served> {
  const events: ServerEvent[] = [];
  const server = await Server.start({
    models:
      repository === undefined
        ? Object.entries(models).map(([name, path]) => ({
            name,
            version: '1',
            source: { kind: 'file', path, overrides: {} },
            placings: [{ device: 'cpu', threads: 1 }],
          }))
        : await FolderCatalog.open(repository, { device: 'cpu', threads: 1, overrides: {} }),
    host: '127.0.0.1',
    port: 0,
    ioThreads: 1,
    batching: { slaMs: 1000, queueSamples: 100_000 },
    requestBytes: 32 << 20,
    drainMs: 20_000,
    // What is asked of them is right before their code is compiled, too, and that takes a quarter of a server's start.
    warmUpRequests: 4,
    limits: { ...DEFAULT_FRONT_LIMITS, ...limits },
    onEvent: (event) => void events.push(event),
    programs,
    ...others,
  });
  return { server, port: server.port, events, [Symbol.asyncDispose]: () => server.close() };
}
