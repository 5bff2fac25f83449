/** The CUDA backend without a GPU: over the fake driver, its kernels in emulation. cuda.test.ts has the other groups of cases. */

import assert from 'node:assert/strict';
import { after } from 'node:test';
import { SHORTEST_SPLIT } from '../../src/backend/cuda/embedding/fused-layout.ts';
import {
  type Plan,
  plainPlan,
  refusals,
  withGroup,
  withKernel,
  withTechniques,
} from '../../src/plan/plan.ts';
import type { PlanContext } from '../../src/plan/techniques/technique.ts';
import { refuseEmulation } from '../emulation/emulator.ts';
import { fake, openFakeBackend } from '../fake-driver/open-backend.ts';
import { CASE_GROUPS, type CaseGroup } from './subject.ts';
import { conformance, conformanceSkipped } from './suite.ts';

/** Each technique once, and two together: every kernel is compiled for this, which takes a second. */
function somePlans(context: PlanContext): Plan[] {
  const plain = plainPlan('cuda');
  const on = (techniques: Record<string, unknown>) => withTechniques(plain, techniques);
  const bytes = 1 << 16;
  const [first] = context.tables;
  const fused = withTechniques(withKernel(plain, 'fused'), { prefetch: { into: 'registers', distance: 8 } });
  const prefetch = { into: 'registers', distance: 2 } as const;
  const artifact = withKernel(plain, 'artifact');
  return [
    plain,
    ...(first === undefined ? [] : [withGroup(fused, { ...rowsOf(first), techniques: { prefetch } })]),
    ...(first === undefined ? [] : [withGroup(plain, { ...rowsOf(first), techniques: { prefetch } })]),
    on({ prefetch: { into: 'registers', distance: 3 } }),
    on({ pinning: { bytes, by: 'prefetch', when: 'ahead' } }),
    on({ prefetch: { into: 'registers', distance: 3 }, pinning: { bytes, by: 'prefetch', when: 'before' } }),
    on({ pinning: { bytes, by: 'window', when: 'before' } }),
    artifact,
    withTechniques(artifact, { prefetch, pinning: { bytes, by: 'prefetch', when: 'before' } }),
  ].filter((plan) => refusals(plan, context).length === 0);
}

const rowsOf = ({ dim, rowFormat }: PlanContext['tables'][number]) => ({ dim, rowFormat });

/** What other files have: cuda.test.ts, and test/backend/cuda/dense/scaled-layers*.test.ts over the fake library. */
const ELSEWHERE: ReadonlySet<CaseGroup> = new Set(['programs', 'transfers', 'models', '8-bit layers']);

const skip = refuseEmulation();
if (skip === undefined) {
  conformance('cuda, emulated', openFakeBackend, {
    precision: 'float32',
    groups: CASE_GROUPS.filter((group) => !ELSEWHERE.has(group)),
    // Their kernels are compiled together.
    concurrency: 8,
    rowsStandAlone: false,
    addsQuantizedInIndexOrder: false,
    longestInOrder: SHORTEST_SPLIT,
    plansOf: somePlans,
    // Every kernel of every case would be compiled for this.
    goldenPlansOf: () => [],
    // A kernel is compiled for all widths of a problem, most of this file's time.
    widthsInTurn: 3,
    faultPlaces: 4,
    propertyRuns: 10,
  });
  after(() => {
    assert.equal(fake.emulatorError(), '');
    assert.deepEqual(fake.live(), {}, 'everything was given back');
  });
} else {
  conformanceSkipped('cuda, emulated', skip);
}
