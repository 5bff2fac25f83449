/**
 * Times the dense part of DLRMs on a GPU: `node --import tsx bench/cuda-kernels/dense-run.ts [OUT.json]`, in about a
 * minute. Every case is first compared with float64 sums at sampled places; a case that is wrong or fails is reported,
 * and the rest go on. Exits with 1 when there is one.
 *
 * Times are device times. `launchUs`: one launch between its own two events, which adds some microseconds; `graphUs`: a
 * graph of many launches, divided. Data of small cases stays in L2, as it does between the layers of a model.
 */
import { writeFileSync } from 'node:fs';
import { type Activation, elementBytes } from '../../src/backend/backend.ts';
import type { CudaLinear } from '../../src/backend/cuda/dense/cuda-linear.ts';
import { DenseKernels } from '../../src/backend/cuda/dense/dense-kernels.ts';
import type { DeviceLinear, DeviceMatrix } from '../../src/backend/cuda/dense/dense-operation.ts';
import { factorBits } from '../../src/backend/cuda/dense/dense-source.ts';
import { BlockPool } from '../../src/cuda/block-pool.ts';
import { CudaDevice } from '../../src/cuda/device.ts';
import { cudaDriver, describe } from '../../src/cuda/discover.ts';
import { CudaEvent } from '../../src/cuda/event.ts';
import { DeviceMemory } from '../../src/cuda/memory.ts';
import { CudaStream } from '../../src/cuda/stream.ts';
import { interactionPairs } from '../../src/dense/reference.ts';
import {
  activationFormat,
  type ElementFormat,
  UNSCALED_PRECISIONS,
  type UnscaledPrecision,
} from '../../src/device.ts';
import { CudaError, HotrowError } from '../../src/errors.ts';
import { CublasLt } from '../../src/ffi/cublaslt.ts';
import type { DevicePtr } from '../../src/ffi/cuda-symbols.ts';
import { addressOf } from '../../src/ffi/host-memory.ts';
import { Nvrtc } from '../../src/ffi/nvrtc.ts';
import { KernelCache } from '../../src/jit/kernel-cache.ts';
import { bfloat16ToNumber, float16ToNumber, numberToBfloat16, numberToFloat16 } from '../../src/tensor.ts';
import { median, quantile } from '../../src/tuner/quantile.ts';
import { createRandom } from '../../src/workload/random.ts';

/** Idle memory of measurements. */
const POOL_BYTES = 2 ** 30;
const INTERACTION_BATCH = 2048;
const INTERACTIONS = [
  { features: 27, dim: 128 },
  { features: 251, dim: 128 },
];
/** Columns that the bottom MLP's output takes beside the interaction's. */
const BESIDE = 128;

const BATCHES = [1, 128, 2048];
interface Layer {
  readonly model: string;
  readonly inputs: number;
  readonly outputs: number;
  readonly activation: Activation;
  readonly crossed?: true;
  readonly biased?: false;
}
const mlp = (model: string, sizes: readonly number[], last: Activation): Layer[] =>
  sizes.slice(1).map((outputs, i) => ({
    model,
    inputs: sizes[i] as number,
    outputs,
    activation: i === sizes.length - 2 ? last : 'relu',
  }));
const LAYERS: readonly Layer[] = [
  ...mlp('250 tables, bottom', [1024, 512, 128, 128], 'relu'),
  ...mlp('250 tables, top', [31503, 128, 64, 1], 'sigmoid'),
  { model: 'DCNv2, V', inputs: 3456, outputs: 512, activation: 'none', biased: false },
  { model: 'DCNv2, W', inputs: 512, outputs: 3456, activation: 'none', crossed: true },
  ...mlp('MLPerf, bottom', [13, 512, 256, 128], 'relu'),
  ...mlp('MLPerf, top', [3456, 1024, 1024, 512, 256, 1], 'sigmoid'),
];

const LAUNCHES = 30;
const GRAPH_RUNS = 20;
const GRAPH_ROUNDS = 7;
/** No case starts after so many seconds. */
const LAST_START_SECONDS = 100;
const NOISE_FLOATS = 1 << 20;
const FLOAT32_ROUNDING = 2 ** -24;

const startedAt = performance.now();
const [out] = process.argv.slice(2);
const driver = cudaDriver();
using device = new CudaDevice(driver);
using stream = new CudaStream(device);
const majorVersion = Math.floor(driver.version / 1000);
const compiler = new Nvrtc({ majorVersion });
const cublasLt = new CublasLt({ majorVersion });
const cache = new KernelCache();

const random = createRandom(1);
/** Element i of every input is noise[i mod NOISE_FLOATS]: exact in every format. */
const noise = new Float32Array(new ArrayBuffer(4 * NOISE_FLOATS)).map(
  () => Math.round(254 * random.float() - 127) / 128,
);
const noiseAt = (i: number) => noise[i % NOISE_FLOATS] as number;

const noiseIn: Readonly<Record<ElementFormat, Float32Array | Uint16Array>> = {
  float32: noise,
  float16: Uint16Array.from(noise, numberToFloat16),
  bfloat16: Uint16Array.from(noise, numberToBfloat16),
};
const NUMBER_OF: Readonly<Record<ElementFormat, (element: number) => number>> = {
  float32: (x) => x,
  float16: float16ToNumber,
  bfloat16: bfloat16ToNumber,
};

/** Device memory full of noise. */
function noisy(elements: number, format: ElementFormat): DeviceMemory {
  const source = noiseIn[format];
  const size = source.BYTES_PER_ELEMENT;
  const memory = new DeviceMemory(device, size * elements);
  for (let done = 0; done < elements; done += NOISE_FLOATS) {
    const count = Math.min(NOISE_FLOATS, elements - done);
    stream.copyToDevice(memory.address(size * done), addressOf(source), size * count);
  }
  stream.synchronize();
  return memory;
}

/** Elements of a row as models lay matrices out: aligned to 16 bytes. */
function aligned(cols: number, format: ElementFormat): number {
  const unit = 16 / elementBytes({ format });
  return Math.ceil(cols / unit) * unit;
}

function matrixAt(
  address: DevicePtr,
  rows: number,
  cols: number,
  format: ElementFormat,
  stride = cols,
): DeviceMatrix {
  return { address, format, rows, cols, stride };
}

function readRow({ address, cols, stride, format }: DeviceMatrix, row: number): Float32Array {
  const host =
    format === 'float32'
      ? new Float32Array(new ArrayBuffer(4 * cols))
      : new Uint16Array(new ArrayBuffer(2 * cols));
  const size = host.BYTES_PER_ELEMENT;
  stream.copyToHost(addressOf(host), (address + BigInt(size * row * stride)) as DevicePtr, size * cols);
  stream.synchronize();
  return Float32Array.from(host, NUMBER_OF[format]);
}

/** |Σ a·b − sum| may be so large, of Σ |a·b|: both factors rounded, then every product and sum. */
function errorBound(precision: UnscaledPrecision, terms: number): number {
  // In 16 bits a bias, the sums of a cross and the result are rounded too.
  const roundings = activationFormat(precision) === 'float32' ? 2.1 : 5.1;
  const rounded = precision === 'float32' ? 0 : roundings * 2 ** -factorBits(precision);
  // Tensor cores drop what falls below the last bit when they add: twice a rounding.
  return rounded + 2 * (terms + 4) * FLOAT32_ROUNDING;
}

class WrongResult extends Error {}

/** Compares, and gives the largest error as a share of what is allowed. */
function shareOfBound(x: number, expected: number, bound: number, where: string): number {
  const share = Math.abs(x - expected) / bound;
  if (!(share <= 1)) throw new WrongResult(`${where}: ${x}, expected ${expected} ± ${bound}`);
  return share;
}

interface Timing {
  readonly launchUs: { readonly median: number; readonly p10: number; readonly p90: number };
  readonly graphUs: number;
}

function time(run: () => void): Timing {
  using start = new CudaEvent(device, { timing: true });
  using end = new CudaEvent(device, { timing: true });
  const between = (work: () => void) => {
    start.record(stream);
    work();
    end.record(stream);
    stream.synchronize();
    return 1e3 * end.msSince(start);
  };
  for (let i = 0; i < 5; i++) run();
  const launches = Array.from({ length: LAUNCHES }, () => between(run)).sort((a, b) => a - b);
  using graph = stream.capture(() => {
    for (let i = 0; i < GRAPH_RUNS; i++) run();
  });
  graph.launch(stream);
  const graphs = Array.from({ length: GRAPH_ROUNDS }, () => between(() => graph.launch(stream)));
  const [p10, p90] = [quantile(launches, 0.1), quantile(launches, 0.9)];
  return { launchUs: { median: median(launches), p10, p90 }, graphUs: median(graphs) / GRAPH_RUNS };
}

function timeInteraction(kernels: DenseKernels, features: number, dim: number) {
  const batch = INTERACTION_BATCH;
  const pairs = interactionPairs(features, false, 'lower');
  const format = activationFormat(kernels.precision);
  const size = elementBytes({ format });
  const width = aligned(BESIDE + pairs.length, format);
  using z = noisy(batch * features * dim, format);
  using result = new DeviceMemory(device, size * batch * width);
  const operation = {
    input: matrixAt(z.address(), batch, features * dim, format),
    features,
    dim,
    diagonal: false,
    order: 'lower',
    output: matrixAt(result.address(size * BESIDE), batch, pairs.length, format, width),
  } as const;
  kernels.dotInteraction(stream, operation);
  let worst = 0;
  for (const b of [0, batch >> 1, batch - 1]) {
    const row = readRow(operation.output, b);
    pairs.forEach(([i, j], p) => {
      let [sum, size] = [0, 0];
      for (let d = 0; d < dim; d++) {
        const product = noiseAt((b * features + i) * dim + d) * noiseAt((b * features + j) * dim + d);
        sum += product;
        size += Math.abs(product);
      }
      const bound = errorBound(kernels.precision, dim) * size;
      worst = Math.max(worst, shareOfBound(row[p] as number, sum, bound, `sample ${b}, pair (${i}, ${j})`));
    });
  }
  const timing = time(() => kernels.dotInteraction(stream, operation));
  const readBytes = size * batch * features * dim;
  const writtenBytes = size * batch * pairs.length;
  const seconds = timing.graphUs / 1e6;
  return {
    operation: 'dotInteraction',
    shape: `${features} × ${dim}`,
    batch,
    ...timing,
    shareOfErrorBound: worst,
    gigabytesPerSecond: (readBytes + writtenBytes) / seconds / 1e9,
    writtenGigabytesPerSecond: writtenBytes / seconds / 1e9,
    teraflopsPerSecond: (2 * batch * pairs.length * dim) / seconds / 1e12,
  };
}

interface PlacedLayer {
  readonly layer: Layer;
  readonly weight: Float32Array;
  readonly bias: Float32Array | undefined;
  readonly placed: CudaLinear;
}

function placeLayer(kernels: DenseKernels, layer: Layer): PlacedLayer {
  const { inputs, outputs, biased } = layer;
  const scale = 1 / Math.sqrt(inputs);
  // Another part of the noise than inputs begin with.
  const weight = Float32Array.from({ length: inputs * outputs }, (_, i) => scale * noiseAt(i + 777_777));
  const bias =
    biased === false ? undefined : Float32Array.from({ length: outputs }, (_, i) => noiseAt(i + 5));
  return { layer, weight, bias, placed: kernels.placeLinear(weight, bias, outputs, inputs) };
}

/** Float64 value of output [b, n], and how far off it may be. */
function expectedLinear(
  precision: UnscaledPrecision,
  { layer, weight, bias }: PlacedLayer,
  b: number,
  n: number,
): { expected: number; bound: number } {
  const { inputs, outputs, activation, crossed } = layer;
  let [sum, size] = [bias?.[n] ?? 0, Math.abs(bias?.[n] ?? 0)];
  for (let k = 0; k < inputs; k++) {
    const product =
      noiseAt(b * aligned(inputs, inputFormat(precision, layer)) + k) * (weight[n * inputs + k] as number);
    sum += product;
    size += Math.abs(product);
  }
  const bound = errorBound(precision, inputs) * size + 2 ** -22;
  if (crossed) {
    const [x0, x] = [noiseAt(b * outputs + n), noiseAt(b * outputs + n)];
    return { expected: x0 * sum + x, bound };
  }
  if (activation === 'relu') return { expected: Math.max(0, sum), bound };
  return { expected: activation === 'sigmoid' ? 1 / (1 + Math.exp(-sum)) : sum, bound };
}

/** Of a layer's input: dense features come as float32 from the host. */
function inputFormat(precision: UnscaledPrecision, { model, inputs }: Layer): ElementFormat {
  const isFirst = model.endsWith('bottom') && (inputs === 13 || inputs === 1024);
  return isFirst ? 'float32' : activationFormat(precision);
}

/** Of a layer's output: a model's is float32. */
function outputFormat(precision: UnscaledPrecision, { activation }: Layer): ElementFormat {
  return activation === 'sigmoid' ? 'float32' : activationFormat(precision);
}

function timeLinear(kernels: DenseKernels, placedLayer: PlacedLayer, batch: number) {
  const { layer, placed } = placedLayer;
  const { model, inputs, outputs, activation, crossed } = layer;
  const [from, to] = [inputFormat(kernels.precision, layer), outputFormat(kernels.precision, layer)];
  const [readSize, writtenSize] = [elementBytes({ format: from }), elementBytes({ format: to })];
  using x = noisy(batch * aligned(inputs, from), from);
  using y = new DeviceMemory(device, writtenSize * batch * outputs);
  using x0 = crossed ? noisy(batch * outputs, to) : undefined;
  const other = x0 && matrixAt(x0.address(), batch, outputs, to);
  const operation: DeviceLinear = {
    layer: placed,
    // Zeros are promised where rows are longer: the weight's zeros meet noise, which is as good.
    input: {
      ...matrixAt(x.address(), batch, inputs, from, aligned(inputs, from)),
      padding: aligned(inputs, from) - inputs,
    },
    output: matrixAt(y.address(), batch, outputs, to),
    activation,
    ...(other === undefined ? {} : { cross: { x0: other, x: other } }),
  };
  const choice = kernels.prepare(operation);
  kernels.linear(stream, operation);
  let worst = 0;
  for (const b of new Set([0, batch >> 1, batch - 1])) {
    const row = readRow(operation.output, b);
    for (const n of new Set(Array.from({ length: 16 }, (_, i) => Math.floor((i * (outputs - 1)) / 15)))) {
      const { expected, bound } = expectedLinear(kernels.precision, placedLayer, b, n);
      worst = Math.max(worst, shareOfBound(row[n] as number, expected, bound, `output [${b}, ${n}]`));
    }
  }
  const timing = time(() => kernels.linear(stream, operation));
  const seconds = timing.graphUs / 1e6;
  const weightBytes = inputs * outputs * (kernels.precision.endsWith('float16') ? 2 : 4);
  const bytes = weightBytes + batch * (readSize * inputs + writtenSize * outputs * (crossed ? 3 : 1));
  return {
    operation: 'linear',
    model,
    shape: `${inputs} → ${outputs}${crossed ? ', cross' : activation === 'none' ? '' : `, ${activation}`}`,
    batch,
    choice,
    ...timing,
    shareOfErrorBound: worst,
    teraflopsPerSecond: (2 * batch * inputs * outputs) / seconds / 1e12,
    gigabytesPerSecond: bytes / seconds / 1e9,
  };
}

const rows: object[] = [];
const failures: object[] = [];

/** Runs a case; what fails is kept, and only a lost context ends the run. */
function attempt(precision: UnscaledPrecision, name: string, measure: () => object): void {
  if (performance.now() - startedAt > 1e3 * LAST_START_SECONDS) {
    failures.push({ precision, name, error: 'left out: the time was up' });
    return;
  }
  try {
    const row = { precision, ...measure() };
    rows.push(row);
    const { graphUs, launchUs, choice } = row as Partial<Timing & { choice: string }>;
    console.log(
      `${precision.padEnd(9)} ${name.padEnd(44)} ${graphUs?.toFixed(2).padStart(9)} µs ${launchUs?.median.toFixed(2).padStart(9)} µs alone  ${choice ?? ''}`,
    );
  } catch (error) {
    if (!(error instanceof HotrowError || error instanceof WrongResult)) throw error;
    failures.push({ precision, name, error: error.message });
    console.error(`${precision} ${name}: ${error.message}`);
    if (error instanceof CudaError && error.contextLost) throw error;
  }
}

function save(): void {
  const results = {
    createdAt: new Date().toISOString(),
    device: describe(driver, device.properties),
    nvrtc: compiler.version,
    cublasLt: cublasLt.version,
    rows,
    failures,
  };
  if (out !== undefined) writeFileSync(out, `${JSON.stringify(results, null, 2)}\n`);
}

try {
  for (const precision of UNSCALED_PRECISIONS) {
    using kernels = await DenseKernels.open(device, {
      precision,
      compiler,
      cache,
      cublasLt,
      settle: () => stream.synchronize(),
      pool: BlockPool.ofDevice(device, POOL_BYTES),
    });
    for (const { features, dim } of INTERACTIONS) {
      attempt(precision, `dot interaction ${features} × ${dim}, batch ${INTERACTION_BATCH}`, () =>
        timeInteraction(kernels, features, dim),
      );
    }
    for (const layer of LAYERS) {
      const placedLayer = placeLayer(kernels, layer);
      using _ = placedLayer.placed;
      for (const batch of BATCHES) {
        attempt(precision, `${layer.model}: ${layer.inputs} → ${layer.outputs}, batch ${batch}`, () =>
          timeLinear(kernels, placedLayer, batch),
        );
      }
    }
  }
} finally {
  save();
}
console.log(
  `${rows.length} cases, ${failures.length} failed, ${((performance.now() - startedAt) / 1e3).toFixed(1)} s`,
);
if (failures.length > 0) process.exitCode = 1;
