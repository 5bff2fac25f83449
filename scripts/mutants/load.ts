/** The open loop of `hotrow load`: schedules, histograms, intervals, connections. */
import { type Mutant, mutantsOf } from './mutant.ts';

export const LOAD: readonly Mutant[] = [
  ...mutantsOf(
    'src/load/open-loop.ts',
    [
      ['endMs - dueMs, deadlineMs', 'endMs - nowMs, deadlineMs'],
      ['if (dueMs < this.#countFromMs)', 'if (false)'],
      ['lag.record(nowMs - dueMs)', 'lag.record(0)'],
      ['if (!this.#underWay.delete(own)) return;', 'this.#underWay.delete(own);'],
      ['    this.#callOff();\n', ''],
    ],
    ['test/load/open-loop.test.ts'],
  ),
  ...mutantsOf(
    'src/load/order-statistics.ts',
    [
      ['(1 - confidence) / 2', '1 - confidence'],
      ['low >= 1 ?', 'low >= 0 ?'],
      ['last + 1 <= count ?', 'last <= count ?'],
    ],
    ['test/load/order-statistics.test.ts'],
  ),
  ...mutantsOf(
    'src/load/rate-search.ts',
    [
      ['if (rate >= this.#failed)', 'if (rate > this.#failed)'],
      ['> confirmations)', '>= confirmations)'],
      ['failures < this.#limits.failures', 'failures < 1'],
    ],
    ['test/load/rate-search.test.ts'],
  ),
  ...mutantsOf(
    'src/load/connections.ts',
    [
      ['this.#all.size >= this.#limit ||', ''],
      ['< this.#idleSeconds - MARGIN_SECONDS', '> 0'],
      ['if (next !== undefined) this.#open()?.send(next.message, next.replied);', ''],
      ['of this.#idle) {', 'of [...this.#idle].reverse()) {'],
    ],
    ['test/load/connections.test.ts'],
  ),
  ...mutantsOf(
    'src/load/answers.ts',
    [
      ['if (rows !== samples)', 'if (false)'],
      ['if (found !== body.length - jsonBytes)', 'if (false)'],
      ['known.tensorBytes === body.length - jsonBytes && ', ''],
    ],
    ['test/load/answers.test.ts'],
  ),
];
