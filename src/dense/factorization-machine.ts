/** The second-order term of a factorization machine: torchrec/modules/deepfm.py, FactorizationMachine. */
import { oneOf } from '../checks/value.ts';
import { type BlockKind, refuseLayers, sum, withoutWeights } from './block.ts';
import { REFERENCE_ROW_FUNCTIONS } from './reference.ts';

/**
 * ½ · ((Σ x)² − Σ x²), x all elements of all vectors, as TorchRec computes it: the products of all pairs of elements, added
 * up [B, 1]. (The paper, arXiv 1703.04247, multiplies elements of one place alone: the sum of dot products.) In float32 the
 * result is within (n + 3) · 2⁻²⁴ · ((Σ |x|)² + Σ x²) of the exact one, n the number of elements.
 */
export interface FactorizationMachineBlock {
  readonly kind: 'factorization-machine';
}

export const factorizationMachineBlock: BlockKind<FactorizationMachineBlock> = {
  schema: {},
  stored(block) {
    refuseLayers(block, 'factorization-machine');
    return { kind: 'factorization-machine' };
  },
  describe: () => ({}),
  members: { kind: oneOf(['factorization-machine']) },
  width: () => 1,
  title: (_, vectors) => `factorization machine of ${sum(vectors)} elements`,
  parameters: () => 0,
  layers: () => [],
  place: async () =>
    withoutWeights((input, output) => [
      { op: 'rowFunction', function: 'factorizationMachine', input, output },
    ]),
  reference: async (_, { batch, vectors, values }) =>
    REFERENCE_ROW_FUNCTIONS.factorizationMachine({ batch, columns: sum(vectors), input: values }),
};
