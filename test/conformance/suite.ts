/**
 * The cases that every backend passes. A backend joins by a file of a few lines that calls `conformance`.
 */
import { after, before, describe, test } from 'node:test';
import type { Backend } from '../../src/backend/backend.ts';
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
import { type Capabilities, plansOfOneTechnique, type Subject } from './subject.ts';
import { techniqueCases } from './techniques.ts';
import { userCases, userModelCases } from './users.ts';

/** Runs every case on the backend that `openBackend` gives. */
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
      denseRounding: capabilities.denseRounding ?? 2 ** -24,
      rowsStandAlone: capabilities.rowsStandAlone ?? true,
      denseOnly: capabilities.denseOnly ?? false,
      plansOf: capabilities.plansOf ?? legalPlans,
      goldenPlansOf: capabilities.goldenPlansOf ?? plansOfOneTechnique,
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

    const { concurrency } = subject;
    if (!subject.denseOnly) {
      describe('embedding bags', { concurrency }, () => embeddingBagCases(subject));
      describe('pruned rows', { concurrency }, () => prunedRowCases(subject));
      describe('techniques', { concurrency }, () => techniqueCases(subject));
      describe('index checking', () => indexCheckingCases(subject));
      describe('users', { concurrency }, () => userCases(subject));
      describe('properties', () => propertyCases(subject));
      describe('golden embedding bags', () => goldenBagCases(subject));
      describe('programs', () => programCases(subject));
      describe('row updates', () => rowUpdateCases(subject));
    }
    describe('dense operators', () => denseCases(subject));
    describe('models', () => modelCases(subject));
    describe('models with users', () => userModelCases(subject));
    describe('golden models', () => goldenModelCases(subject));
  });
}

/** Reports a backend that this machine cannot run. */
export function conformanceSkipped(name: string, reason: string): void {
  test(`conformance of ${name}`, { skip: reason }, () => {});
}
