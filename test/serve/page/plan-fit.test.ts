import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planFit } from '../../../src/serve/page/plan-fit.ts';

test('a plan fits when it keeps hot rows where there are some, and none where there are none', () => {
  const verdict = (pinsRows: boolean, canPinRows: boolean, share: number | null) =>
    planFit({ pinsRows, canPinRows }, share).verdict;
  assert.deepEqual([verdict(true, true, 0.5), verdict(true, true, 0.49)], ['fits', 'tune']);
  assert.deepEqual([verdict(false, true, 0.5), verdict(false, true, 0.49)], ['tune', 'fits']);
  assert.deepEqual([verdict(false, false, 0.9), verdict(false, false, 0.1)], ['fits', 'fits']);
  assert.deepEqual([verdict(true, true, null), verdict(false, false, null)], ['unknown', 'unknown']);
  assert.equal(planFit(null, 0.9).verdict, 'unknown');
});

test('its words have the share', () => {
  for (const pinsRows of [true, false])
    for (const canPinRows of [true, false])
      for (const share of [0.125, 0.875])
        assert.match(planFit({ pinsRows, canPinRows }, share).text, share > 0.5 ? /88 %/ : /13 %/);
});
