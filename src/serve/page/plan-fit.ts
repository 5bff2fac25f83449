/** Whether a plan fits the traffic, in words. */
import { percent } from '../../numbers.ts';
import type { PlanFit, ServedHow } from './live-event.ts';

/** Of the lookups: with so many to hot rows, keeping these near the processor pays. */
const HOT_SHARE = 0.5;

/** `share`: of lookups that go to hot rows; null: not known yet. */
export function planFit(
  served: Pick<ServedHow, 'pinsRows' | 'canPinRows'> | null,
  share: number | null,
): PlanFit {
  if (served === null) return { verdict: 'unknown', text: 'It is not served.' };
  if (share === null)
    return {
      verdict: 'unknown',
      text: 'How hot the traffic is shows after some thousand lookups of a table.',
    };
  const { pinsRows, canPinRows } = served;
  const isHot = share >= HOT_SHARE;
  const lookups = percent(share);
  if (pinsRows && isHot)
    return {
      verdict: 'fits',
      text: `The plan fits: it keeps hot rows in the L2 cache, and ${lookups} of the lookups go to hot rows.`,
    };
  if (pinsRows)
    return {
      verdict: 'tune',
      text: `The plan may not fit: it keeps hot rows in the L2 cache, and only ${lookups} of the lookups go to hot rows. Record traffic, and tune on it.`,
    };
  if (!isHot)
    return {
      verdict: 'fits',
      text: `The plan fits: it keeps no rows in the cache, and only ${lookups} of the lookups go to hot rows.`,
    };
  if (canPinRows)
    return {
      verdict: 'tune',
      text: `The traffic is hot: ${lookups} of the lookups go to hot rows, and the plan keeps none of them in the cache. Record traffic, and tune on it: another plan may be faster.`,
    };
  return {
    verdict: 'fits',
    text: `The traffic is hot: ${lookups} of the lookups go to hot rows, which the caches of a CPU keep by themselves.`,
  };
}
