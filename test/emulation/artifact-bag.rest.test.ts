/** Every variant of the artifact's kernel on the host, against the reference, bit for bit. */
import { before, test } from 'node:test';
import { tableBagSource, tableVariantId } from '../../src/backend/cuda/embedding/standard-source.ts';
import { bagsFor, everyLength, tableFor } from '../support/cuda-bags.ts';
import { ARTIFACT_VARIANTS } from '../support/cuda-variants.ts';
import { Random } from '../support/random.ts';
import { emulate, refuseEmulation } from './emulator.ts';
import { TableKernelsOnHost } from './table-pool.ts';

const skip = refuseEmulation();
let host: TableKernelsOnHost;

before(async () => {
  if (skip !== undefined) return;
  const sources = ARTIFACT_VARIANTS.map((variant) => tableBagSource('artifact', variant));
  host = new TableKernelsOnHost(await emulate(sources), 'artifact');
});

for (const variant of ARTIFACT_VARIANTS) {
  test(`${tableVariantId('artifact', variant)}: bags of every length, odd dims`, { skip }, () => {
    const random = new Random(7);
    const lengths = everyLength(variant);
    for (const dim of [1, 31, 40, 130]) {
      const table = tableFor(random, variant, dim === 1 ? 1 : 37, dim);
      const bags = bagsFor(random, variant, table.rows, lengths, dim % 2 === 0);
      host.check(variant, table, bags, lengths.length);
    }
  });
}
