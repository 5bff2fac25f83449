/**
 * What ptxas says of the variants of the CUDA kernels that are launched table by table, as tables in docs/cuda-kernels.md. Needs nvcc:
 *   npx tsx scripts/report-registers.ts
 */

import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  PLAIN_VARIANT,
  type StandardBagVariant,
  sharedBytes,
  type TableKernelFamily,
  tableBagSource,
  tableVariantId,
} from '../src/backend/cuda/embedding/standard-source.ts';
import { warpsPerMultiprocessor } from '../src/plan/occupancy.ts';
import { PREFETCH_BUFFERS } from '../src/plan/techniques/prefetch.ts';
import { ARCHITECTURES, compileWithNvcc, type Resources, refuseNvcc } from './nvcc.ts';

const PAGE = fileURLToPath(new URL('../docs/cuda-kernels.md', import.meta.url));
const BEGIN = '<!-- registers: written by scripts/report-registers.ts -->';
const END = '<!-- /registers -->';

/** A variant, and the kernel family that it is of. */
interface Kernel {
  readonly family: TableKernelFamily;
  readonly variant: StandardBagVariant;
}
const of = (family: TableKernelFamily, variants: readonly StandardBagVariant[]): Kernel[] =>
  variants.map((variant) => ({ family, variant }));

/** The paper's settings of each prefetch, and some more. */
const ARTIFACT: readonly StandardBagVariant[] = [
  PLAIN_VARIANT,
  ...(
    [
      ['registers', 2],
      ['registers', 4],
      ['registers', 8],
      ['shared', 10],
      ['local', 2],
      ['local', 8],
      ['l1', 2],
      ['l1', 4],
    ] as const
  ).map(([into, distance]) => ({ ...PLAIN_VARIANT, prefetch: { into, distance } })),
];

const STANDARD: readonly StandardBagVariant[] = [
  PLAIN_VARIANT,
  { ...PLAIN_VARIANT, index: 'int32', offset: 'int32' },
  { ...PLAIN_VARIANT, rowFormat: 'float16' },
  { ...PLAIN_VARIANT, rowFormat: 'bfloat16' },
  { ...PLAIN_VARIANT, pooling: 'mean', padding: true },
  { ...PLAIN_VARIANT, pooling: 'max', padding: true },
  { ...PLAIN_VARIANT, weights: 'sample' },
  { ...PLAIN_VARIANT, weights: 'row' },
  { ...PLAIN_VARIANT, repair: true },
  { ...PLAIN_VARIANT, wideRows: true },
  ...PREFETCH_BUFFERS.flatMap((into) =>
    [1, 2, 4, 6, 8, 10, 12, 16].map((distance) => ({ ...PLAIN_VARIANT, prefetch: { into, distance } })),
  ),
];

const UNCAPPED: readonly Kernel[] = [...of('standard', STANDARD), ...of('artifact', ARTIFACT)];

const CAPS = [24, 32, 40, 48, 56, 64];
const CAPPED: readonly Kernel[] = [
  ...of('standard', [
    PLAIN_VARIANT,
    ...PREFETCH_BUFFERS.flatMap((into) =>
      [4, 8, 16].map((distance) => ({ ...PLAIN_VARIANT, prefetch: { into, distance } })),
    ),
  ]),
  ...of('artifact', ARTIFACT),
].flatMap(({ family, variant }) =>
  CAPS.map((maxRegisters) => ({ family, variant: { ...variant, maxRegisters } })),
);

async function resourcesOf(
  kernels: readonly Kernel[],
  architecture: string,
): Promise<(kernel: Kernel) => Resources> {
  const found = new Map<string, Resources>();
  const source = ({ family, variant }: Kernel) => tableBagSource(family, variant);
  for (const cap of new Set(kernels.map(({ variant }) => variant.maxRegisters))) {
    const sources = kernels.filter(({ variant }) => variant.maxRegisters === cap).map(source);
    for (const entry of await compileWithNvcc(sources, architecture)) found.set(...entry);
  }
  return (kernel) => found.get(source(kernel).kernel) as Resources;
}

/** `40`, or `40 (8 spilled)`. */
function cell({ registers, spilledBytes }: Resources): string {
  return spilledBytes === 0 ? `${registers}` : `${registers} (${spilledBytes} B)`;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

async function report(): Promise<string> {
  const uncapped = await Promise.all(
    ARCHITECTURES.map((architecture) => resourcesOf(UNCAPPED, architecture)),
  );
  const capped = await resourcesOf(CAPPED, 'sm_90');
  const ninety = ARCHITECTURES.indexOf('sm_90');
  const plainRows = UNCAPPED.map((kernel) => {
    const { family, variant } = kernel;
    const cells = uncapped.map((resources) => cell(resources(kernel)));
    const { registers } = (uncapped[ninety] as (kernel: Kernel) => Resources)(kernel);
    const warps = warpsPerMultiprocessor({ registers, threads: variant.threads });
    return [`\`${tableVariantId(family, variant)}\``, ...cells, `${warps}`, `${sharedBytes(variant) || ''}`];
  });
  const cappedRows = CAPPED.filter(({ variant }) => variant.maxRegisters === CAPS[0]).map(
    ({ family, variant: { maxRegisters: _, ...variant } }) => [
      `\`${tableVariantId(family, variant)}\``,
      ...CAPS.map((maxRegisters) => cell(capped({ family, variant: { ...variant, maxRegisters } }))),
    ],
  );
  const version = /release \S+, V(\S+)/.exec(spawnSync('nvcc', ['--version']).stdout.toString())?.[1];
  return [
    `nvcc ${version}. Registers a thread, spilled bytes in brackets; warps a multiprocessor on sm_90 with 256 threads a`,
    'block; bytes of shared memory a block.',
    '',
    table(['variant', ...ARCHITECTURES, 'warps', 'shared'], plainRows),
    '',
    'With a register cap, on sm_90:',
    '',
    table(['variant', ...CAPS.map((cap) => `cap ${cap}`)], cappedRows),
  ].join('\n');
}

const refusal = refuseNvcc();
if (refusal !== undefined) {
  console.error(`error: ${refusal}`);
  process.exit(1);
}
const page = readFileSync(PAGE, 'utf8');
const [before, after] = [page.indexOf(BEGIN), page.indexOf(END)];
if (before === -1 || after === -1) throw new Error(`${PAGE} lacks its markers`);
writeFileSync(PAGE, `${page.slice(0, before + BEGIN.length)}\n\n${await report()}\n\n${page.slice(after)}`);
