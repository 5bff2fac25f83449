/** Two small tables and their lookups, which emulation runs in no time. */
import { PRESETS } from '../../src/bench/presets.ts';
import { patternWorkload } from '../../src/bench/workload.ts';

export const SHAPE = {
  architecture: PRESETS.paper.architecture({ tables: 2, rows: 64, dim: 32 }),
  batchSize: 4,
  bagLengths: '3',
  batches: 2,
  seed: 1,
  indexType: 'int64',
} as const;

export const WORKLOADS = (['random', 'one_item'] as const).map((pattern) => patternWorkload(pattern, SHAPE));
