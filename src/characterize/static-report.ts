/** What the compiler and the occupancy calculator say of every variant, on GPUs that need not be here. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bagKinds } from '../backend/cuda/embedding/bag-kinds.ts';
import { fusedSource } from '../backend/cuda/embedding/fused-source.ts';
import { fusedVariant, tableVariant } from '../backend/cuda/embedding/plan-kernels.ts';
import { tableBagSource } from '../backend/cuda/embedding/standard-source.ts';
import { KERNELS_FOLDER, type KernelSource } from '../backend/cuda/kernels/source.ts';
import { combinedPlans, familyPlans, singleTechniquePlans } from '../bench/embedding-bench.ts';
import { throwIfAborted } from '../checks/abort.ts';
import type { Bags, EmbeddingTable } from '../embedding/bag.ts';
import { DeviceError } from '../errors.ts';
import { compileUnit, findToolkitProgram, toolkitVersion } from '../jit/nvcc.ts';
import type { CompiledResources } from '../jit/ptxas-log.ts';
import { writeWhole } from '../opened-file.ts';
import { multiprocessorLimits, occupancyOf } from '../plan/occupancy.ts';
import { type CudaPlan, type Plan, planFor, planLabel } from '../plan/plan.ts';
import type { PlanContext } from '../plan/techniques/technique.ts';
import type { OnProgress } from '../progress.ts';
import { temporaryFolder } from '../temporary-folder.ts';
import type { DescribedGpu } from './gpus.ts';
import type { StaticRow } from './results.ts';
import { instructionMix } from './sass.ts';

export interface StaticReport {
  readonly rows: StaticRow[];
  /** Compiler and disassembler, with their versions. */
  readonly tools: Readonly<Record<string, string>>;
  readonly notes: string[];
}

export interface StaticOptions {
  readonly tables: readonly EmbeddingTable[];
  readonly gpus: readonly DescribedGpu[];
  /** Default: all that the benchmark compares. */
  readonly plans?: (context: PlanContext) => readonly Plan[];
  readonly onProgress?: OnProgress;
  /** Ends compilers, and gives the report up. */
  readonly signal?: AbortSignal;
}

/** A plan's kernel for the first table, as the benchmark's rows have it. */
interface Variant {
  readonly plan: CudaPlan;
  readonly source: KernelSource;
  readonly blockThreads: number;
}

/**
 * Compiles the kernel of every plan, once an architecture.
 * @throws DeviceError CUDA_LIBRARY_MISSING without a compiler, KERNEL_COMPILE_FAILED; AbortError.
 */
export async function staticReport(options: StaticOptions): Promise<StaticReport> {
  const { tables, gpus, plans = comparedPlans, onProgress, signal } = options;
  const nvcc = findToolkitProgram('nvcc');
  if (nvcc === undefined) {
    throw new DeviceError('CUDA_LIBRARY_MISSING', 'no CUDA compiler was found to ask', {
      hint: 'install nvcc (Debian: nvidia-cuda-toolkit; NVIDIA: cuda-nvcc), or set CUDA_HOME',
    });
  }
  const disassembler = findToolkitProgram('cuobjdump');
  const notes =
    disassembler === undefined
      ? ['no instruction mix: cuobjdump was not found (NVIDIA: cuda-cuobjdump; Debian: nvidia-cuda-toolkit)']
      : [];
  const byArchitecture = new Map<string, Promise<CompiledKernels>>();
  const rows: StaticRow[] = [];
  for (const gpu of gpus) {
    const variants = variantsFor(tables, gpu, plans);
    const known = byArchitecture.get(gpu.architecture);
    onProgress?.(`compiling for ${gpu.architecture}`);
    const tools = { nvcc, disassembler, signal };
    const compiling = known ?? compileAll(tools, variants, gpu.architecture);
    byArchitecture.set(gpu.architecture, compiling);
    const compiled = await compiling;
    rows.push(...variants.flatMap((variant) => rowOf(variant, gpu, compiled)));
  }
  return {
    rows,
    tools: {
      nvcc: toolkitVersion(nvcc),
      ...(disassembler === undefined ? {} : { cuobjdump: toolkitVersion(disassembler) }),
    },
    notes,
  };
}

/** The plans of the benchmark's comparison, each once. */
function comparedPlans(context: PlanContext): Plan[] {
  const plans = [...singleTechniquePlans(context), ...combinedPlans(context), ...familyPlans(context)];
  return [...new Map(plans.map((plan) => [planLabel(plan), plan])).values()];
}

function variantsFor(
  tables: readonly EmbeddingTable[],
  { device }: DescribedGpu,
  plans: (context: PlanContext) => readonly Plan[],
): Variant[] {
  const bags = tables.map((): Bags => ({ indices: new BigInt64Array(), offsets: new BigInt64Array() }));
  const { kinds, distinct } = bagKinds(tables, bags);
  const [first] = kinds;
  if (first === undefined) return [];
  const call = { checking: 'error' } as const;
  return plans({ device, tables }).map((compared) => {
    const plan = planFor('cuda', compared);
    if (plan.kernel === 'fused') {
      const variant = fusedVariant(plan, distinct, call, { splits: false, several: false });
      return { plan, source: fusedSource(variant), blockThreads: variant.threads };
    }
    const variant = tableVariant(plan, first, call);
    return { plan, source: tableBagSource(plan.kernel, variant), blockThreads: variant.threads };
  });
}

interface CompiledKernels {
  readonly resources: ReadonlyMap<string, CompiledResources>;
  readonly instructions: ReadonlyMap<string, Record<string, number>>;
}

interface Tools {
  readonly nvcc: string;
  readonly disassembler: string | undefined;
  readonly signal: AbortSignal | undefined;
}

/** Kernels with the same options make one translation unit; the units compile side by side. */
async function compileAll(
  { nvcc, disassembler, signal }: Tools,
  variants: readonly Variant[],
  architecture: string,
): Promise<CompiledKernels> {
  const units = new Map<string, Map<string, KernelSource>>();
  for (const { source } of variants) {
    const key = source.options.join(' ');
    const unit = units.get(key) ?? new Map<string, KernelSource>();
    units.set(key, unit.set(source.kernel, source));
  }
  // All have ended, and left nothing, before one's failure is told.
  const settled = await Promise.allSettled(
    [...units.values()].map((unit) => {
      const kernels = [...unit.values()];
      const options = kernels[0]?.options ?? [];
      const unitOf = { kernels, options, includeFolder: KERNELS_FOLDER, architecture };
      return compileUnit(nvcc, unitOf, signal);
    }),
  );
  const compiled = settled.map((unit) => {
    if (unit.status === 'rejected') throw unit.reason;
    return unit.value;
  });
  const mixes: Map<string, Record<string, number>>[] = [];
  for (const { cubin } of disassembler === undefined ? [] : compiled) {
    throwIfAborted(signal, 'disassembling');
    mixes.push(await disassemble(disassembler as string, cubin));
  }
  return {
    resources: new Map(compiled.flatMap(({ resources }) => [...resources])),
    instructions: new Map(mixes.flatMap((mix) => [...mix])),
  };
}

async function disassemble(program: string, cubin: Uint8Array): Promise<Map<string, Record<string, number>>> {
  await using folder = await temporaryFolder();
  const file = join(folder.path, 'unit.cubin');
  await folder.fill(() => writeWhole(file, cubin));
  const { stdout } = spawnSync(program, ['-sass', file], { encoding: 'utf8', maxBuffer: 2 ** 28 });
  return instructionMix(stdout ?? '');
}

function rowOf(
  { plan, source, blockThreads }: Variant,
  { name, architecture, computeCapability }: DescribedGpu,
  { resources, instructions }: CompiledKernels,
): StaticRow[] {
  const own = resources.get(source.kernel);
  if (own === undefined) return [];
  const { registers, spillStoreBytes, stackBytes, sharedBytes } = own;
  const limits = multiprocessorLimits(computeCapability);
  const occupancy = occupancyOf({ registers, threads: blockThreads, sharedBytes }, limits);
  const mix = instructions.get(source.kernel);
  return [
    {
      variant: planLabel(plan),
      plan,
      gpu: name,
      architecture,
      kernel: source.id,
      registers,
      spillBytes: spillStoreBytes,
      stackBytes,
      sharedBytes,
      blockThreads,
      blocksPerMultiprocessor: occupancy.blocks,
      warps: occupancy.warps,
      occupancy: occupancy.share,
      limiter: occupancy.limiter,
      ...(mix === undefined ? {} : { instructions: mix }),
    },
  ];
}
