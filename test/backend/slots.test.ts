/** What a run may bind to slots, and when a program may run. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matrix, type RunReport } from '../../src/backend/backend.ts';
import { checkRows, OneAtATime, Template } from '../../src/backend/slots.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { randomTable } from '../support/cases.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';

test('arrays of whole rows, at most as many as there is room for', () => {
  const check = (length: number, rows: number, cols: number) => () => checkRows(length, { rows, cols }, 'a');
  for (const [length, rows, cols] of [
    [0, 3, 4],
    [4, 3, 4],
    [12, 3, 4],
    [0, 3, 0],
  ] as const)
    check(length, rows, cols)();
  for (const [length, rows, cols] of [
    [1, 3, 4],
    [11, 3, 4],
    [13, 3, 4],
    [16, 3, 4],
    [1, 3, 0],
  ] as const)
    assert.throws(check(length, rows, cols), { code: 'OPTION_INVALID', message: /whole rows of/ });
});

test('bags of at most as many samples as the output has rows', async () => {
  using backend = new ReferenceBackend();
  const table = randomTable(new Random(1), { rows: 3, dim: 2 });
  using tables = await backend.placeTables([table], plainPlan('cpu'));
  using output = backend.allocate(4);
  const template = new Template(
    [{ op: 'embeddingBags', tables, bags: 'bags', output: matrix(output, 2, 2), checking: 'error' }],
    backend.device,
  );
  const bagsOf = (batchSize: number) =>
    backend.placeBags(tables, {
      batchSize,
      bags: [{ indices: new Int32Array(0), offsets: new Int32Array(batchSize) }],
    });
  for (const batchSize of [0, 1, 2]) assert.equal(template.bind({ bags: bagsOf(batchSize) }).length, 1);
  for (const batchSize of [3, 4])
    assert.throws(() => template.bind({ bags: bagsOf(batchSize) }), {
      message: /batchSize is \d, expected at most 2/,
    });
  assert.throws(() => template.bind({}), { message: /bindings\.bags is undefined/ });
  assert.throws(() => template.bind({ bags: bagsOf(1), other: bagsOf(1) }), {
    message: /no operation has this slot/,
  });
});

class Program extends OneAtATime {
  givenBack = 0;
  end = () => {};

  async run(): Promise<RunReport> {
    using _run = this.enter();
    return await new Promise((resolve) => {
      this.end = () => resolve({} as RunReport);
    });
  }

  protected override giveBack(): void {
    this.givenBack++;
  }
}

test('a program runs once at a time, and gives back what it holds once, after a run under way', async () => {
  const program = new Program();
  for (let turn = 0; turn < 2; turn++) {
    const running = program.run();
    await assert.rejects(program.run(), { code: 'USAGE', message: /runs already/ });
    program.end();
    await running;
  }
  const last = program.run();
  program[Symbol.dispose]();
  program[Symbol.dispose]();
  assert.equal(program.givenBack, 0);
  program.end();
  await last;
  assert.equal(program.givenBack, 1);
  await assert.rejects(program.run(), { code: 'DISPOSED' });
  const idle = new Program();
  idle[Symbol.dispose]();
  idle[Symbol.dispose]();
  assert.equal(idle.givenBack, 1);
});
