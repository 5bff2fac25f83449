import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Clock, LINE_MS, ProgressLine, type ProgressStream } from '../../src/cli/progress-line.ts';

/** A stream that keeps what is written to it, and a clock that goes on when it is told to. */
function setUp(stream: Omit<ProgressStream, 'write'>) {
  const written: string[] = [];
  let nowMs = 0;
  let tick: { readonly ms: number; readonly work: () => void; dueMs: number } | undefined;
  const clock: Clock = {
    now: () => nowMs,
    every: (ms, work) => {
      assert.equal(tick, undefined, 'ticks once');
      tick = { ms, work, dueMs: nowMs + ms };
      return () => {
        tick = undefined;
      };
    },
  };
  const pass = (ms: number) => {
    const end = nowMs + ms;
    while (tick !== undefined && tick.dueMs <= end) {
      nowMs = tick.dueMs;
      tick.dueMs += tick.ms;
      tick.work();
    }
    nowMs = end;
  };
  const line = new ProgressLine({ ...stream, write: (text) => written.push(text) }, clock);
  return { line, pass, ticks: () => tick !== undefined, take: () => written.splice(0).join('') };
}

describe('on a terminal', () => {
  test('a line is rewritten in place, and taken off at the end', () => {
    const { line, pass, take, ticks } = setUp({ isTTY: true, columns: 80 });
    line.report('placing tables', 1, 1500);
    assert.equal(take(), '\r\x1b[2Kplacing tables: 1 of 1,500');
    pass(200);
    line.report('placing tables', 2, 1500);
    assert.equal(take(), '\r\x1b[2Kplacing tables: 2 of 1,500');
    line.report('racing plans');
    assert.equal(take(), '\r\x1b[2Kracing plans');
    assert.ok(!ticks());
    line.end();
    assert.equal(take(), '\r\x1b[2K');
    line.end();
    assert.equal(take(), '', 'there is nothing to take off');
  });

  test('steps that follow each other at once are not all shown', () => {
    const { line, pass, take } = setUp({ isTTY: true, columns: 80 });
    line.report('rounds', 1, 9);
    take();
    pass(20);
    line.report('rounds', 2, 9);
    assert.equal(take(), '');
    pass(80);
    line.report('rounds', 3, 9);
    assert.equal(take(), '\r\x1b[2Krounds: 3 of 9');
  });

  test('the text is cut to the width of the terminal, the steps stay', () => {
    for (const columns of [40, 20]) {
      const { line, take } = setUp({ isTTY: true, columns });
      line.report('a long description of what is under way', 12, 345);
      const shown = take().replace('\r\x1b[2K', '');
      assert.match(shown, /^a long.*…: 12 of 345$/u);
      assert.equal([...shown].length, columns - 1);
    }
    // A terminal that does not tell its width says 0.
    const { line, take } = setUp({ isTTY: true, columns: 0 });
    line.report('reading');
    assert.match(take(), /reading$/);
  });

  test('names of files cannot steer the terminal', () => {
    const { line, take } = setUp({ isTTY: true, columns: 80 });
    line.report('reading a\x1b[31m\nb');
    assert.equal(take(), '\r\x1b[2Kreading a\\x1b[31m\\nb');
  });

  test('after another line it is shown again', () => {
    const { line, take } = setUp({ isTTY: true, columns: 80 });
    line.report('rounds', 1, 9);
    line.erase();
    take();
    line.report('rounds', 2, 9);
    assert.equal(take(), '\r\x1b[2Krounds: 2 of 9');
  });
});

describe('elsewhere', () => {
  test('what is short is done without a word', () => {
    const { line, pass, take, ticks } = setUp({});
    line.report('reading');
    pass(LINE_MS - 1);
    line.report('placing tables', 1, 2);
    line.end();
    assert.ok(!ticks());
    pass(10 * LINE_MS);
    assert.equal(take(), '');
  });

  test('a line every few seconds, whether there are steps or not', () => {
    const { line, pass, take } = setUp({});
    line.report('reading');
    pass(LINE_MS);
    assert.equal(take(), 'reading (5 s)\n');
    pass(LINE_MS);
    assert.equal(take(), 'reading (10 s)\n');
    line.report('rounds', 1, 9);
    assert.equal(take(), '');
    pass(LINE_MS);
    assert.equal(take(), 'rounds: 1 of 9 (15 s)\n');
    line.erase();
    assert.equal(take(), '', 'there is no line to take off');
  });

  test('work that leaves the clock no turn is told of at its steps', () => {
    let nowMs = 0;
    const written: string[] = [];
    const line = new ProgressLine(
      { write: (text) => written.push(text) },
      { now: () => nowMs, every: () => () => {} },
    );
    for (let step = 1; step <= 4; step++) {
      line.report('drawing', step, 4);
      nowMs += 0.6 * LINE_MS;
    }
    assert.deepEqual(written, ['drawing: 3 of 4 (6 s)\n']);
  });
});
