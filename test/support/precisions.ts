/** Models of several precisions on one backend. */
import assert from 'node:assert/strict';
import type { Backend } from '../../src/backend/backend.ts';
import type { DensePrecision } from '../../src/device.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { assertSameBits } from './compare.ts';
import { type INTERACTIONS, smallModel, smallRequest } from './models.ts';
import { Random } from './random.ts';

/**
 * Asserts that models of every precision of a device, placed on one backend and predicting side by side, give the bits that
 * each gives on a backend of its own. The backends must multiply alike each time.
 */
export async function assertEachAsAlone(
  kind: (typeof INTERACTIONS)[number],
  openBackend: () => Backend,
): Promise<void> {
  const architecture = smallModel(new Random(91), kind);
  const requests = [1, 7, 40].map((batchSize) =>
    smallRequest(new Random(batchSize), architecture, batchSize),
  );
  const predictAll = async (model: DlrmModel) => {
    const all: Float32Array[] = [];
    for (const request of requests) all.push((await model.predict(request)).probabilities);
    return all;
  };
  using shared = openBackend();
  const { precisions } = shared.device.capabilities;
  const alone = new Map<DensePrecision, Float32Array[]>();
  for (const precision of precisions) {
    using own = openBackend();
    await using model = await DlrmModel.create(own, architecture, { precision });
    alone.set(precision, await predictAll(model));
  }
  const together: DlrmModel[] = [];
  for (const precision of precisions) {
    together.push(await DlrmModel.create(shared, architecture, { precision }));
  }
  // Twice: from the second run on a program is a captured graph.
  for (let run = 0; run < 2; run++) {
    const all = await Promise.all(together.map(predictAll));
    for (const [m, probabilities] of all.entries()) {
      const precision = precisions[m] as DensePrecision;
      assert.equal(together[m]?.precision, precision);
      probabilities.forEach((own, r) => {
        assertSameBits(
          own,
          alone.get(precision)?.[r] as Float32Array,
          `${precision}, request ${r}, run ${run}`,
        );
      });
    }
  }
  for (const model of together) await model.close();
  const distinct = new Set([...alone.values()].map((own) => own.map((values) => values.join()).join()));
  // Their layers are too narrow for 8 bits, and multiply in float16.
  const differing = precisions.filter((precision) => precision !== 'float8_e4m3');
  assert.equal(distinct.size, differing.length, 'every precision rounds differently');
}
