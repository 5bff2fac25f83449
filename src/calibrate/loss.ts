/** What scores lose beside those of a reference. Pure. */
import { at } from '../at.ts';
import { sigmoid } from '../evaluate/agreement.ts';

/**
 * By how much of itself the log loss rises, when labels are 1 with the reference's probabilities: Σ KL(p‖q) / Σ H(p), from logits. It is
 * what evaluations with drawn labels estimate, without the drawing. From 0 on; infinite where a logit is no number.
 */
export function lossIncrease(reference: Float64Array, own: Float64Array): number {
  let [entropy, rise] = [0, 0];
  for (let i = 0; i < reference.length; i++) {
    const [truth, logit] = [at(reference, i), at(own, i)];
    if (!Number.isFinite(logit)) return Number.POSITIVE_INFINITY;
    const p = sigmoid(truth);
    entropy += crossEntropy(p, truth);
    rise += divergence(p, truth, logit);
  }
  return entropy === 0 ? 0 : Math.max(0, rise) / entropy;
}

/** −p log q − (1 − p) log(1 − q), q = sigmoid(logit). */
function crossEntropy(p: number, logit: number): number {
  return Math.max(logit, 0) - p * logit + Math.log1p(Math.exp(-Math.abs(logit)));
}

/** Below it the difference of two cross entropies is rounding. */
const NEAR = 1e-3;

function divergence(p: number, truth: number, logit: number): number {
  const off = logit - truth;
  // Its expansion: p (1 − p) · off² / 2 · (1 + (1 − 2p) · off / 3 + …).
  if (Math.abs(off) < NEAR) return ((p * (1 - p) * off * off) / 2) * (1 + ((1 - 2 * p) * off) / 3);
  return crossEntropy(p, logit) - crossEntropy(p, truth);
}
