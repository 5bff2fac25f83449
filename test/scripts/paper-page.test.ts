/** docs/paper.md of a run, and of none. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { paperPageOf } from '../../scripts/paper-page.ts';
import { artifactResults } from '../report/artifact-results.ts';

const NONE = 'No run has been recorded yet.';

test('the page has the claims, techniques, findings and model of a run', () => {
  const page = paperPageOf(artifactResults());
  assert.equal(page.includes(NONE), false);
  assert.match(page, /^OptMT +1\.53× +1\.60× /m);
  assert.match(page, /^RPF \+ L2P \+ OptMT, pinning counted +82\.0 1\.22× +90\.0 1\.78×$/m);
  assert.match(page, /^- Of the paper's claims this device reaches: OptMT 1\.60×/m);
  assert.match(page, /^cold +artifact-tuned +15\.0 /m);
});

test('without a run it says so, and has no figures of one', () => {
  const page = paperPageOf(undefined);
  assert.equal(page.split(NONE).length - 1, 4);
  assert.doesNotMatch(page, /µs/);
  const without = paperPageOf({ ...artifactResults(), model: [] });
  assert.equal(without.split(NONE).length - 1, 1, 'a run without the whole model');
});
