/**
 * The cases that every backend passes. A backend joins by a file of a few lines that calls `conformance`.
 */
import { after, before, describe, test } from 'node:test';
import type { Backend } from '../../src/backend/backend.ts';
import { defaultPrecision } from '../../src/device.ts';
import { legalPlans } from '../../src/tuner/search.ts';
import { denseCases } from './dense.ts';
import { embeddingBagCases } from './embedding-bags.ts';
import { goldenBagCases, goldenModelCases } from './golden.ts';
import { indexCheckingCases } from './index-checking.ts';
import { modelCases } from './model.ts';
import { programCases } from './programs.ts';
import { propertyCases } from './properties.ts';
import { prunedRowCases } from './pruned-rows.ts';
import { rowUpdateCases } from './row-updates.ts';
import { scaledLinearCases } from './scaled-linear.ts';
import {
  CASE_GROUPS,
  type Capabilities,
  type CaseGroup,
  plansOfOneTechnique,
  type Subject,
} from './subject.ts';
import { techniqueCases } from './techniques.ts';
import { transferCases } from './transfers.ts';
import { userCases, userModelCases } from './users.ts';

const CASES: Readonly<Record<CaseGroup, (subject: Subject) => void>> = {
  'embedding bags': embeddingBagCases,
  'pruned rows': prunedRowCases,
  techniques: techniqueCases,
  'index checking': indexCheckingCases,
  users: userCases,
  properties: propertyCases,
  'golden embedding bags': goldenBagCases,
  programs: programCases,
  transfers: transferCases,
  'row updates': rowUpdateCases,
  '8-bit layers': scaledLinearCases,
  'dense operators': denseCases,
  models: modelCases,
  'models with users': userModelCases,
  'golden models': goldenModelCases,
};

/** Their tests may run side by side. */
const SIDE_BY_SIDE: ReadonlySet<CaseGroup> = new Set([
  'embedding bags',
  'pruned rows',
  'techniques',
  'users',
]);

/** Runs the cases on the backend that `openBackend` gives. */
export function conformance(
  name: string,
  openBackend: () => Backend | Promise<Backend>,
  capabilities: Capabilities = {},
): void {
  describe(`conformance of ${name}`, () => {
    let opened: Backend | undefined;
    const subject: Subject = {
      get backend() {
        if (opened === undefined) throw new Error(`${name} is not open`);
        return opened;
      },
      addsInIndexOrder: capabilities.addsInIndexOrder ?? true,
      addsQuantizedInIndexOrder: capabilities.addsQuantizedInIndexOrder ?? true,
      longestInOrder: capabilities.longestInOrder ?? Number.POSITIVE_INFINITY,
      get precision() {
        return capabilities.precision ?? defaultPrecision(subject.backend.device);
      },
      denseRounding: capabilities.denseRounding ?? 2 ** -24,
      fastSums: capabilities.fastSums ?? 0,
      rowsStandAlone: capabilities.rowsStandAlone ?? true,
      groups: capabilities.groups ?? CASE_GROUPS,
      plansOf: capabilities.plansOf ?? legalPlans,
      goldenPlansOf: capabilities.goldenPlansOf ?? plansOfOneTechnique,
      widthsInTurn: capabilities.widthsInTurn ?? 1,
      faultPlaces: capabilities.faultPlaces ?? 20,
      propertyRuns: capabilities.propertyRuns ?? 200,
      rowUpdateCalls: capabilities.rowUpdateCalls ?? 300,
      propertySeed: capabilities.propertySeed,
      concurrency: capabilities.concurrency ?? 1,
    };
    before(async () => {
      opened = await openBackend();
    });
    after(() => opened?.[Symbol.dispose]());

    for (const group of subject.groups) {
      const concurrency = SIDE_BY_SIDE.has(group) ? subject.concurrency : 1;
      describe(group, { concurrency }, () => CASES[group](subject));
    }
  });
}

/** Reports a backend that this machine cannot run. */
export function conformanceSkipped(name: string, reason: string): void {
  test(`conformance of ${name}`, { skip: reason }, () => {});
}
