/**
 * Writes the kernels that run.py measures: `npx tsx bench/cuda-kernels/emit.ts FOLDER`. FOLDER then holds the sources
 * and can go to a machine that has a GPU and PyTorch, but no Node.
 */

import { copyFileSync, cpSync, mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  PLAIN_VARIANT,
  type StandardBagVariant,
  standardBagSource,
  utilitySource,
} from '../../src/backend/cuda/kernel-source.ts';
import type { PrefetchBuffer } from '../../src/embedding/techniques/prefetch.ts';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new Error('name a folder');

const capped = (variant: StandardBagVariant, cap: number | undefined) =>
  cap === undefined ? variant : { ...variant, maxRegisters: cap };

/** Distances, each with the register caps to try; undefined: none. */
const PREFETCHES: Readonly<
  Record<PrefetchBuffer, readonly (readonly [number, ...(number | undefined)[]])[]>
> = {
  registers: [
    [2, undefined],
    [4, undefined, 32],
    [6, undefined, 32],
    [8, undefined, 32, 64],
    [10, undefined, 40],
    [16, undefined, 40],
  ],
  shared: [
    [4, undefined],
    [8, undefined, 32],
    [10, undefined, 40],
  ],
  local: [
    [2, undefined],
    [4, undefined],
    [8, undefined, 40],
  ],
  l1: [
    [2, undefined],
    [4, undefined],
    [8, undefined],
  ],
  pipelined: [
    [2, undefined],
    [3, undefined],
    [4, undefined, 40],
    [6, undefined],
    [8, undefined],
  ],
};

const variants = [
  ...[undefined, 24, 32].map((cap) => capped(PLAIN_VARIANT, cap)),
  ...Object.entries(PREFETCHES).flatMap(([into, rows]) =>
    rows.flatMap(([distance, ...caps]) =>
      caps.map((cap) =>
        capped({ ...PLAIN_VARIANT, prefetch: { into: into as PrefetchBuffer, distance } }, cap),
      ),
    ),
  ),
];

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));
mkdirSync(folder, { recursive: true });
cpSync(here('../../kernels/cuda'), `${folder}/cuda`, { recursive: true });
copyFileSync(here('run.py'), `${folder}/run.py`);
writeFileSync(
  `${folder}/sources.json`,
  JSON.stringify({ variants: variants.map(standardBagSource), pin: utilitySource('pin_rows') }),
);
