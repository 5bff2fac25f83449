import Type from 'typebox';
import { fillsWarps } from './lanes.ts';
import { onDevice, type Technique } from './technique.ts';

const cuda = onDevice({
  parameters: Type.Object(
    { threads: Type.Union([Type.Literal(64), Type.Literal(128), Type.Literal(256), Type.Literal(512)]) },
    { additionalProperties: false },
  ),
  candidates: ({ kernel }): { threads: 64 | 256 }[] =>
    kernel === 'fused' ? [{ threads: 256 }, { threads: 64 }] : [],
  // Blocks of few warps, each of which starts the next part of a table as soon as it is done.
  guess: (context): { threads: 64 } | undefined => (fillsWarps(context) ? { threads: 64 } : undefined),
  refuse: (_, { kernel }) =>
    kernel === 'fused' ? undefined : `the ${kernel} kernel's block is 32 × 8 threads, as in PyTorch`,
  label: ({ threads }) => `blocks of ${threads}`,
  cost: () => ({ note: 'a block of many warps keeps its place until the last of them is done' }),
  settings: ({ threads }) => ({ threads }),
  changesPlacement: false,
});

/** How many bags share a block: it decides in what steps warps come and go, and how many a register cap leaves. */
export const block = {
  name: 'block',
  title: 'Block shape',
  summary: 'sets the threads of a block, and so the steps in which warps take and leave a multiprocessor',
  devices: { cuda },
} satisfies Technique;
