/** Three small tables, two of them alike, and their lookups, which emulation runs in no time. */
import { PRESETS } from '../../src/bench/presets.ts';
import { syntheticTables } from '../../src/bench/synthetic-model.ts';
import { patternWorkload } from '../../src/bench/workload.ts';

const paper = PRESETS.paper.architecture({ tables: 2, rows: 64, dim: 32 });
const wide = syntheticTables({ tables: 3, rows: 64, dim: 64, rowFormat: 'float32' }).slice(2);

export const SHAPE = {
  architecture: { ...paper, tables: [...paper.tables, ...wide] },
  batchSize: 4,
  bagLengths: '3',
  batches: 2,
  seed: 1,
  indexType: 'int64',
} as const;

export const WORKLOADS = (['random', 'one_item'] as const).map((pattern) => patternWorkload(pattern, SHAPE));
