/** Products that leave their output in 8 bits alone, on the fake driver: what they are asked for, and when they are chosen. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { KeptChoices } from '../../../../src/backend/cuda/dense/kept-choices.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { SOME_CHOICES } from '../../../support/choices.ts';
import { type EightBitCase, rankOf, runEightBits, UNTOUCHED } from '../../../support/eight-bit-outputs.ts';

const skip = refuseEmulation();
if (skip === undefined) {
  const { fakeLt, fakeTools } = await import('../../../fake-driver/open-backend.ts');
  const own: EightBitCase = {
    ...{ rows: 20, inputs: 64, outputs: 48, activation: 'relu', biased: true, oneScale: true, alone: true },
  };

  test('the library rounds them itself, and leaves the 16-bit output as it was', async () => {
    fakeLt.setOuterVectors(true);
    fakeLt.setEpilogues(true);
    for (const [activation, biased, choice] of [
      ['relu', true, 'cuBLASLt, scaled, fused, in 8 bits'],
      ['none', true, 'cuBLASLt, scaled, fused, in 8 bits'],
      ['none', false, 'cuBLASLt, scaled, in 8 bits'],
    ] as const) {
      const made = await runEightBits(fakeTools, { ...own, activation, biased });
      const beside = await runEightBits(fakeTools, { ...own, activation, biased, alone: false });
      assert.equal(made.choice, choice);
      assert.doesNotMatch(beside.choice, /in 8 bits/);
      assert.deepEqual(new Set(made.output), new Set([UNTOUCHED]));
      const [ranks, others] = [Array.from(made.copy, rankOf), Array.from(beside.copy, rankOf)];
      // The sums are rounded once, those beside a 16-bit output twice.
      const apart = ranks.map((rank, i) => Math.abs(rank - (others[i] as number)));
      assert.ok(
        apart.every((steps, i) => steps <= 1 || (Number.isNaN(ranks[i]) && Number.isNaN(others[i]))),
        choice,
      );
      assert.ok(apart.filter((steps) => steps === 1).length < apart.length / 50);
      assert.ok(ranks.some(Number.isNaN) && ranks.includes(0x7e), 'NaN, and what saturates');
    }
  });

  test('not where outputs have a scale each, which the library does not take, nor where its ReLU loses NaN', async () => {
    const beside = (await runEightBits(fakeTools, { ...own, oneScale: false })).choice;
    assert.equal(beside, 'cuBLASLt, scaled, fused');
    fakeLt.setReluLosesNaN(true);
    assert.doesNotMatch((await runEightBits(fakeTools, own)).choice, /in 8 bits/);
    fakeLt.setReluLosesNaN(false);
  });

  test('one scale for all needs no vectors of scales', async () => {
    fakeLt.setOuterVectors(false);
    const wide = { ...own, alone: false };
    assert.equal((await runEightBits(fakeTools, wide)).choice, 'cuBLASLt, scaled, fused');
    const vectors = await runEightBits(fakeTools, { ...wide, oneScale: false });
    assert.equal(vectors.choice, 'cuBLASLt, finished by a kernel');
    fakeLt.setOuterVectors(true);
  });

  test('the choice is kept', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'hotrow-eight-bits-'));
    try {
      const warnings: string[] = [];
      const choices = () =>
        new KeptChoices(SOME_CHOICES, { folder, onWarning: (text) => warnings.push(text) });
      const made = await runEightBits({ ...fakeTools, choices: choices() }, own);
      const again = await runEightBits({ ...fakeTools, choices: choices() }, own, { measured: true });
      assert.deepEqual(again, made);
      assert.deepEqual(warnings, []);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
} else test('outputs in 8 bits alone', { skip }, () => {});
