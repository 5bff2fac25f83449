import Type from 'typebox';
import { type KernelShape, kernelShape } from '../kernel-families.ts';
import { capForWarps, DEVICE_LIMITS, MIN_REGISTER_CAP } from '../occupancy.ts';
import { fillsWarps } from './lanes.ts';
import { type KernelFamily, onDevice, type Technique } from './technique.ts';

const strict = { additionalProperties: false } as const;

type Parameters = { maxRegisters: number } | { warps: number };

/** By kernel family, the best guess first. The artifact's on an A100: 42. */
const CANDIDATES: Readonly<Record<KernelFamily, Parameters[]>> = {
  standard: [{ warps: 64 }, { warps: 48 }, { maxRegisters: 24 }],
  fused: [{ warps: 32 }, { warps: 16 }, { warps: 24 }],
  artifact: [{ warps: 64 }, { warps: 48 }, { maxRegisters: 42 }],
};

const cuda = onDevice({
  parameters: Type.Union([
    Type.Object(
      {
        maxRegisters: Type.Integer({
          minimum: MIN_REGISTER_CAP,
          maximum: DEVICE_LIMITS.registersPerThread,
          description: 'registers of a thread; the compiler spills what does not fit',
        }),
      },
      strict,
    ),
    Type.Object(
      {
        warps: Type.Integer({
          minimum: 1,
          maximum: DEVICE_LIMITS.warpsPerMultiprocessor,
          description:
            'warps on a multiprocessor at once; the register cap follows, and the fused kernel lets no more in',
        }),
      },
      strict,
    ),
  ]),
  candidates: ({ kernel = 'standard' }) => CANDIDATES[kernel],
  // The fused kernel gains where its rows are spread over more lanes.
  guess: (context) => {
    if (context.kernel !== 'fused') return { warps: 64 };
    return fillsWarps(context) ? { warps: 32 } : undefined;
  },
  sweep: () => [16, 24, 32, 40, 48, 64, 96, 128].map((maxRegisters) => ({ maxRegisters })),
  refuse: (parameters, context) =>
    'warps' in parameters ? refuseWarps(parameters.warps, kernelShape(context)) : undefined,
  label: (parameters) =>
    `OptMT ${'warps' in parameters ? `${parameters.warps} warps` : `cap ${parameters.maxRegisters}`}`,
  cost: (parameters, context) => {
    const cap = registerCap(parameters, kernelShape(context));
    return {
      registerCap: cap,
      note: `${cap} registers a thread at most: nothing where the kernel needs fewer, spills to local memory where it needs many more`,
    };
  },
  settings: (parameters, shape) => ({
    maxRegisters: registerCap(parameters, shape),
    // Fewer warps read fewer tables at once, whose hot rows then stay in L2: the cap lets more of them in.
    ...('warps' in parameters && shape.kernel === 'fused' ? { mostWarps: parameters.warps } : {}),
  }),
  changesPlacement: false,
  perGroup: ['standard', 'artifact'],
});

function refuseWarps(warps: number, { kernel, blockThreads }: KernelShape): string | undefined {
  const blockWarps = blockThreads / DEVICE_LIMITS.warpThreads;
  if (kernel === 'fused' && warps % blockWarps !== 0)
    return `${warps} warps are no whole number of blocks, which have ${blockWarps} (${blockThreads} threads)`;
  return capForWarps(warps, blockThreads) === undefined
    ? `no register cap lets ${warps} warps live on a multiprocessor, in blocks of ${blockThreads} threads`
    : undefined;
}

/** The register cap that the parameters come to. @throws TypeError for parameters that were not checked. */
function registerCap(parameters: Parameters, { blockThreads }: KernelShape): number {
  const cap = 'warps' in parameters ? capForWarps(parameters.warps, blockThreads) : parameters.maxRegisters;
  if (cap === undefined) throw new TypeError('no register cap reaches the target: the plan was not checked');
  return cap;
}

/**
 * The paper's OptMT: more warps in flight hide more latency, as long as what they spill costs less. The fused kernel has
 * rows in flight enough in few warps; there, fewer warps mean fewer tables at once, whose hot rows stay in L2.
 */
export const occupancy = {
  name: 'occupancy',
  title: 'Occupancy (OptMT)',
  summary: 'caps the registers of a thread, so that more warps live on a multiprocessor and hide latency',
  devices: { cuda },
} satisfies Technique;
