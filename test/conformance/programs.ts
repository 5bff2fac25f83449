/** Programs are templates: what a run binds to their slots, and what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix, type Operation } from '../../src/backend/backend.ts';
import { placeCollection } from '../../src/model/collection.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { mixedProblem } from '../support/cases.ts';
import { assertSameBits } from '../support/compare.ts';
import { Random } from '../support/random.ts';
import { poolOn } from '../support/run-operators.ts';
import type { Subject } from './subject.ts';

export function programCases(subject: Subject): void {
  /** Three rows of two there and back. */
  function thereAndBack(name = '') {
    const buffer = subject.backend.allocate(6);
    const rows = matrix(buffer, 3, 2);
    const program: Operation[] = [
      { op: 'upload', source: `${name}source`, output: rows, stage: 'up' },
      { op: 'download', input: rows, target: `${name}target`, stage: 'down' },
    ];
    const executable = subject.backend.prepare(program);
    return {
      executable,
      [Symbol.dispose]() {
        for (const part of [executable, buffer]) part[Symbol.dispose]();
      },
    };
  }

  test('each run has its own arrays, of other sizes too', async () => {
    using own = thereAndBack();
    for (const count of [3, 3, 1, 2, 0, 3]) {
      const source = Float32Array.from({ length: count * 2 }, (_, i) => count * 100 + i);
      const target = new Float32Array(count * 2);
      await own.executable.run({ source, target }, { timing: 'none' });
      assertSameBits(target, source, `${count} rows`);
    }
  });

  test('two programs run in turn keep what each of them does', async () => {
    using some = thereAndBack('some ');
    using others = thereAndBack('other ');
    for (let turn = 0; turn < 4; turn++) {
      const [one, two] = [new Float32Array(6).fill(turn), new Float32Array(6).fill(10 + turn)];
      const [first, second] = [new Float32Array(6), new Float32Array(6)];
      await some.executable.run({ 'some source': one, 'some target': first }, { timing: 'none' });
      await others.executable.run({ 'other source': two, 'other target': second }, { timing: 'none' });
      assertSameBits(first, one, `the first, turn ${turn}`);
      assertSameBits(second, two, `the second, turn ${turn}`);
    }
  });

  test('bags and results are bound by name, and a slot may stand in several operations', async () => {
    const { backend } = subject;
    const { tables, batch } = mixedProblem(new Random(8), 8, 9, true);
    const { pooled } = await poolOn(backend, tables, batch);
    using placed = await placeCollection(backend, tables, plainPlan(backend.device.kind));
    const width = pooled.length / batch.batchSize;
    using buffer = backend.allocate(2 * 8 * width);
    const outputs = [0, 1].map((half) => matrix(buffer, 8, width, half * 8 * width));
    using executable = backend.prepare(
      outputs.flatMap((output, i): Operation[] => [
        { op: 'embeddingBags', tables: placed, bags: 'bags', output, checking: 'error' },
        { op: 'download', input: output, target: `pooled ${i}` },
      ]),
    );
    for (let run = 0; run < 3; run++) {
      using bags = backend.placeBags(placed, batch);
      const found = [new Float32Array(pooled.length), new Float32Array(pooled.length)] as const;
      await executable.run({ bags, 'pooled 0': found[0], 'pooled 1': found[1] }, { timing: 'none' });
      for (const one of found) assertSameBits(one, pooled, `run ${run}`);
    }
  });

  test('times are summed by stage', async () => {
    using own = thereAndBack();
    const bindings = { source: new Float32Array(6), target: new Float32Array(6) };
    const { seconds, stages } = await own.executable.run(bindings);
    assert.deepEqual(stages, { up: seconds[0], down: seconds[1] });
  });

  test('bindings that are missing, unknown or do not fit are refused by name, and the program runs on', async () => {
    using own = thereAndBack();
    const run = (bindings: object) => own.executable.run(bindings as never, { timing: 'none' });
    const [source, target] = [new Float32Array(6).fill(7), new Float32Array(6)];
    const wrong: readonly (readonly [object, RegExp])[] = [
      [{ source }, /bindings\.target/],
      [{ target }, /bindings\.source/],
      [{ source, target, more: source }, /bindings.*more/],
      [{ source: new Float64Array(6), target }, /bindings\.source/],
      [{ source: new Float32Array(5), target }, /bindings\.source/],
      [{ source: new Float32Array(8), target }, /bindings\.source/],
      [{ source, target: new Uint16Array(6) }, /bindings\.target/],
      [{ source, target: 'target' }, /bindings\.target/],
      [{ source: null, target }, /bindings\.source/],
    ];
    for (const [bindings, message] of wrong)
      await assert.rejects(run(bindings), { code: 'OPTION_INVALID', message });
    assert.ok(
      target.every((x) => x === 0),
      'nothing was half done',
    );
    await run({ source, target });
    assertSameBits(target, source, 'afterwards');
  });

  test('twice at once, and after its end: refused', async () => {
    const own = thereAndBack();
    const bindings = () => ({ source: new Float32Array(6).fill(3), target: new Float32Array(6) });
    const first = bindings();
    const running = own.executable.run(first);
    await assert.rejects(own.executable.run(bindings()), { code: 'USAGE', message: /runs already/ });
    await running;
    assertSameBits(first.target, first.source, 'the first');
    own[Symbol.dispose]();
    await assert.rejects(own.executable.run(bindings()), { code: 'DISPOSED' });
  });

  test('a program with slots cannot be run without bindings', async () => {
    using buffer = subject.backend.allocate(6);
    const upload: Operation = { op: 'upload', source: 'source', output: matrix(buffer, 3, 2) };
    await assert.rejects(subject.backend.run([upload]), { code: 'OPTION_INVALID', message: /source/ });
  });
}
