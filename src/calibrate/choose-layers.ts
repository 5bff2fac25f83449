/** Which layers multiply in 8 bits: as many multiply-adds as the loss allows. Pure, but for the losses that it asks for. */
import { at } from '../at.ts';

export interface Candidate {
  /** Of a sample. */
  readonly multiplyAdds: number;
}

export interface Choice {
  /** By candidate: what it loses when it alone is in 8 bits. */
  readonly alone: readonly number[];
  readonly chosen: ReadonlySet<number>;
  /** Of the layers that were chosen, together. */
  readonly loss: number;
}

/**
 * Takes layers in the order of what each loses alone for its multiply-adds, each that keeps the loss of all taken so far within
 * `mostLoss`. `lossOf`: of a set of candidates, measured.
 */
export async function chooseLayers(
  candidates: readonly Candidate[],
  mostLoss: number,
  lossOf: (layers: ReadonlySet<number>) => Promise<number>,
): Promise<Choice> {
  const alone: number[] = [];
  for (const i of candidates.keys()) alone.push(await lossOf(new Set([i])));
  const price = (i: number) => at(alone, i) / at(candidates, i).multiplyAdds;
  const order = [...candidates.keys()].sort((a, b) => price(a) - price(b));
  const all = new Set(order);
  let loss = await lossOf(new Set());
  if (order.length > 0) {
    const ofAll = order.length === 1 ? at(alone, 0) : await lossOf(all);
    if (ofAll <= mostLoss) return { alone, chosen: all, loss: ofAll };
  }
  const chosen = new Set<number>();
  for (const i of order) {
    // Errors add up as often as they cancel: the set is measured, not summed.
    const own = chosen.size === 0 ? at(alone, i) : await lossOf(new Set([...chosen, i]));
    if (own > mostLoss) continue;
    chosen.add(i);
    loss = own;
  }
  return { alone, chosen, loss };
}
