import Type from 'typebox';
import { rowBytes } from '../../embedding/bag.ts';
import { rowContentBytes } from '../../embedding/row-format.ts';
import { GPU_FAMILIES, kernelShape, type PrefetchBuffer } from '../kernel-families.ts';
import { fillsWarps } from './lanes.ts';
import { type KernelFamily, onDevice, type Technique } from './technique.ts';

/** On a CPU, a row is asked for this many lookups ahead, at most. */
const MAX_CPU_DISTANCE = 64;

const cpu = onDevice({
  parameters: Type.Object(
    {
      distance: Type.Integer({ minimum: 1, maximum: MAX_CPU_DISTANCE }),
      level: Type.Union([Type.Literal('L1'), Type.Literal('L2'), Type.Literal('L3'), Type.Literal('NTA')]),
    },
    { additionalProperties: false },
  ),
  candidates: () => [
    ...[32, 16, 48, 64, 8].map((distance) => ({ distance, level: 'L1' as const })),
    { distance: 32, level: 'L2' as const },
    { distance: 32, level: 'NTA' as const },
  ],
  refuse: () => undefined,
  label: ({ distance, level }) => `prefetch d${distance} ${level}`,
  cost: ({ distance }, { tables }) => {
    const widest = Math.max(0, ...tables.map(rowBytes));
    return {
      note: `${((distance * widest) / 1024).toFixed(1)} KiB of cache in flight; a loss where rows are cached already`,
    };
  },
  changesPlacement: false,
});

/**
 * `pipelined`: in registers too, later rows asked for while earlier ones are added: the standard kernel has two groups of
 * registers for that, the fused one asks for a row as it adds one.
 */
export const PREFETCH_BUFFERS: readonly PrefetchBuffer[] = [
  'registers',
  'shared',
  'local',
  'l1',
  'pipelined',
];

/** The paper's names, and `pipe` for ours. */
const SHORT_NAMES: Readonly<Record<PrefetchBuffer, string>> = {
  registers: 'RPF',
  shared: 'SMPF',
  local: 'LMPF',
  l1: 'L1DPF',
  pipelined: 'pipelined RPF',
};

const CUDA_NOTES: Readonly<Record<PrefetchBuffer, string>> = {
  registers: 'a register a row; past 32 registers a thread, warps are lost',
  shared: '4 bytes of shared memory a row and thread; a little slower than registers where rows are cached',
  local:
    "its stores and loads take the L1 bandwidth that rows need: slower than no prefetch on an H200's hot rows",
  l1: 'one prefetch instruction a row; many times slower than no prefetch where few rows are hot',
  pipelined: 'two registers per row; the next rows are on their way while the last are added',
};

/** For the standard kernel, the best guess first. */
const STANDARD_CANDIDATES: { into: PrefetchBuffer; distance: number }[] = [
  { into: 'registers', distance: 6 },
  { into: 'registers', distance: 4 },
  { into: 'registers', distance: 8 },
  { into: 'pipelined', distance: 3 },
  { into: 'pipelined', distance: 6 },
  { into: 'shared', distance: 8 },
  { into: 'local', distance: 4 },
  { into: 'l1', distance: 2 },
];

/** For the fused kernel, which keeps a power of two of rows in flight, the best guess first. */
const FUSED_CANDIDATES: { into: PrefetchBuffer; distance: number }[] = [
  { into: 'registers', distance: 8 },
  { into: 'registers', distance: 4 },
  { into: 'registers', distance: 16 },
  { into: 'pipelined', distance: 4 },
  { into: 'pipelined', distance: 8 },
];

/** For the artifact's kernel: the paper's, then those that an H200 does better with. */
const ARTIFACT_CANDIDATES: { into: PrefetchBuffer; distance: number }[] = [
  { into: 'registers', distance: 2 },
  { into: 'shared', distance: 10 },
  { into: 'local', distance: 2 },
  { into: 'l1', distance: 2 },
  { into: 'registers', distance: 8 },
  { into: 'registers', distance: 4 },
];

const CANDIDATES: Readonly<Record<KernelFamily, typeof STANDARD_CANDIDATES>> = {
  standard: STANDARD_CANDIDATES,
  fused: FUSED_CANDIDATES,
  artifact: ARTIFACT_CANDIDATES,
};

/** Of rows that a warp's lanes hold in 16 bytes each. */
const NARROW_ROW_BYTES = 512;

/** Indices and rows that wait: two registers per row, twice as many where the next group is asked for ahead. */
const STANDARD_ROW_REGISTERS = { registers: 2.3, pipelined: 4.5, shared: 1.8, local: 1.8, l1: 0 };
/** Of a lane's 16 bytes, about. */
const FUSED_ROW_REGISTERS = 4;

const cuda = onDevice({
  parameters: Type.Object(
    {
      into: Type.Enum(PREFETCH_BUFFERS),
      distance: Type.Integer({ minimum: 1, maximum: GPU_FAMILIES.standard.mostInFlight }),
    },
    { additionalProperties: false },
  ),
  candidates: ({ kernel = 'standard' }): { into: PrefetchBuffer; distance: number }[] => CANDIDATES[kernel],
  // A lane that holds more than 16 bytes of each of 8 rows takes the registers of two thirds of the warps: on tables of mixed
  // dims up to 256 float32 the kernel is faster without (bench/results/h200-mixed.json).
  guess: (context) => {
    const narrow = context.tables.every((row) => rowContentBytes(row) <= NARROW_ROW_BYTES);
    const { kernel = 'standard' } = context;
    const [first] = CANDIDATES[kernel];
    return kernel !== 'fused' || narrow || fillsWarps(context) ? first : undefined;
  },
  sweep: () =>
    PREFETCH_BUFFERS.flatMap((into) =>
      [1, 2, 3, 4, 6, 8, 10, 12, 16].map((distance) => ({ into, distance })),
    ),
  refuse: ({ into, distance }, { kernel }) => {
    if (kernel === 'artifact' && into === 'pipelined')
      return "the artifact's kernel has the prefetches of the paper, which has no pipelined one";
    if (kernel !== 'fused') return undefined;
    if (into !== 'registers' && into !== 'pipelined')
      return 'the fused kernel keeps rows in flight in registers alone';
    return Number.isInteger(Math.log2(distance))
      ? undefined
      : `the fused kernel keeps a power of two of rows in flight, not ${distance}`;
  },
  label: ({ into, distance }) => `${SHORT_NAMES[into]} d${distance}`,
  cost: ({ into, distance }, context) => {
    const { kernel, blockThreads } = kernelShape(context);
    const rowRegisters = kernel === 'fused' ? FUSED_ROW_REGISTERS : STANDARD_ROW_REGISTERS[into];
    const sharedBytes = blockThreads * distance * Float32Array.BYTES_PER_ELEMENT;
    return {
      note: CUDA_NOTES[into],
      rowsInFlight: distance,
      registers: rowRegisters * distance,
      ...(into === 'shared' ? { sharedBytes } : {}),
    };
  },
  settings: (own) => ({ prefetch: own }),
  changesPlacement: false,
  perGroup: ['standard', 'fused', 'artifact'],
});

/** Rows of later lookups are asked for while earlier ones are summed, never past the lookups (on a GPU: the bag). */
export const prefetch = {
  name: 'prefetch',
  title: 'Software prefetch',
  summary: 'asks for the rows of later lookups while earlier ones are summed, so that their misses overlap',
  devices: { cpu, cuda },
} satisfies Technique;
