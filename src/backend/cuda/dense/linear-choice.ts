/** How a linear layer may be computed. Pure. */
import type { MatmulPlan } from '../../../cuda/matrix-products.ts';
import type { MatmulEpilogue } from '../../../ffi/cublaslt.ts';
import type { Activation } from '../../backend.ts';
import type { CrossColumns } from './cross-product.ts';
import type { KeptChoice } from './kept-choices.ts';

/** A product of the library. */
export interface ProductChoice {
  readonly kind: 'product';
  readonly plan: MatmulPlan;
  readonly fused: boolean;
  readonly finished: boolean;
  /** Whether the product multiplies by the scales of 8-bit factors. */
  readonly scaled: boolean;
  /** Whether it leaves the output in 8 bits alone. */
  readonly rounds: boolean;
}

/** How a shape of linear layer is computed. */
export type LinearChoice =
  | { readonly kind: 'direct' }
  | { readonly kind: 'cross'; readonly columns: CrossColumns }
  | ProductChoice;

/** What a layer does to its products. */
export interface LinearTail {
  readonly activation: Activation;
  readonly biased: boolean;
  readonly crossed: boolean;
  /** Whether sums are to be multiplied by scales of 8-bit factors. */
  readonly scaled: boolean;
}

/** How the tail is split between the product and the kernel after it. */
export interface TailSplit {
  readonly epilogue: MatmulEpilogue;
  /** Whether finish_linear runs after the product, and does the whole tail. */
  readonly finished: boolean;
  /** Whether the product multiplies by the scales: newer libraries on some GPUs can. Else finish_linear does. */
  readonly scaled: boolean;
  /** Whether the product leaves the output in 8 bits alone. */
  readonly rounds: boolean;
}

/** Every way that is valid, the fastest first: the library does what it can do, or all is left to finish_linear. */
export function tailSplits(tail: LinearTail): TailSplit[] {
  const { scaled } = tail;
  const whole = unscaledSplits(tail).map((split) => ({ ...split, scaled, rounds: false }));
  return scaled ? [...whole, { epilogue: 'none', finished: true, scaled: false, rounds: false }] : whole;
}

/** The ways to leave an output in 8 bits alone: the library does all there is to do. Fewer know them. */
export function roundingSplits(tail: LinearTail): TailSplit[] {
  if (!tail.scaled) return [];
  return unscaledSplits(tail)
    .filter(({ finished }) => !finished)
    .map((split) => ({ ...split, scaled: true, rounds: true }));
}

function unscaledSplits({
  activation,
  biased,
  crossed,
}: LinearTail): Pick<TailSplit, 'epilogue' | 'finished'>[] {
  const unfused = { epilogue: 'none', finished: true } as const;
  if (crossed || activation === 'sigmoid') return [unfused];
  if (activation === 'relu') return [{ epilogue: biased ? 'reluBias' : 'relu', finished: false }, unfused];
  return biased ? [{ epilogue: 'bias', finished: false }, unfused] : [{ epilogue: 'none', finished: false }];
}

/** Most samples, or outputs, for which a warp a sum may beat a matrix product. */
const FEW = 8;

/** Whether direct_linear is worth a measurement. */
export function mayBeDirect(batch: number, outputs: number): boolean {
  return batch <= FEW || outputs <= FEW;
}

/** Bytes that an address is a multiple of, as far as anyone asks: 16. */
export function addressAlignment(address: bigint): number {
  const low = Number(address % 16n);
  return low === 0 ? 16 : low & -low;
}

export function keptChoice(choice: LinearChoice): KeptChoice {
  if (choice.kind !== 'product') return choice;
  const { plan, fused, finished, scaled, rounds } = choice;
  const { words, workspaceBytes } = plan.algorithm;
  return {
    kind: 'product',
    algorithm: Array.from(words, (word) => word.toString(16)),
    workspaceBytes,
    fused,
    finished,
    scaled,
    rounds,
  };
}

/** A choice, for people. */
export function describeChoice(choice: LinearChoice): string {
  if (choice.kind === 'direct') return 'direct';
  if (choice.kind === 'cross') return `cross product, ${choice.columns} outputs a block`;
  return [
    'cuBLASLt',
    ...(choice.scaled ? ['scaled'] : []),
    ...(choice.fused ? ['fused'] : []),
    ...(choice.finished ? ['finished by a kernel'] : []),
    ...(choice.rounds ? ['in 8 bits'] : []),
  ].join(', ');
}
