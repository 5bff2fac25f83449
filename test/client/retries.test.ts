import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RetryBudget, retryDelayMs } from '../../src/client/retries.ts';
import { ClientError, type ErrorCode, ServeError, ServerError } from '../../src/errors.ts';

test('retries never multiply load: a tenth of it, and ten beforehand', () => {
  const budget = new RetryBudget();
  let retries = 0;
  const requests = 1000;
  for (let i = 0; i < requests; i++) {
    budget.earn();
    while (retries < requests && budget.spend()) retries += 1;
  }
  assert.ok(retries >= 100 && retries <= 110, `${retries}`);
  const idle = new RetryBudget();
  for (let i = 0; i < requests; i++) idle.earn();
  retries = 0;
  while (retries < requests && idle.spend()) retries += 1;
  assert.equal(retries, 10, 'what is not spent does not grow without end');
});

test('only what was refused, or never answered, is sent again', () => {
  const refused = (code: ErrorCode, status: number, retryAfterMs?: number) =>
    new ServerError(code, 'x', { status, retryAfterMs });
  const cases: [string, Parameters<typeof retryDelayMs>[0], number | undefined][] = [
    ['no connection', new ClientError('SERVER_UNREACHABLE', 'x'), 10],
    ['no answer of the protocol', new ClientError('SERVER_ANSWER_INVALID', 'x'), undefined],
    ['a wrong request', refused('TENSOR_SHAPE', 400), undefined],
    ['a wrong token', refused('UNAUTHENTICATED', 401), undefined],
    ['an error of the server', refused('SERVER_FAILED', 500), undefined],
    ['a full queue', refused('OVERLOADED', 503, 2000), 2010],
    ['a deadline that cannot be met', refused('DEADLINE_UNMEETABLE', 503, 1000), 1010],
    ['a server that ends', refused('SHUTTING_DOWN', 503, 1000), 10],
    ['a proxy that reaches none', refused('SERVER_FAILED', 502), 10],
    ['too many requests', refused('SERVER_REFUSED', 429, 3000), 3010],
    ['dropped as late', refused('DEADLINE_EXCEEDED', 504), undefined],
    ['late here', new ServeError('DEADLINE_EXCEEDED', 'x'), undefined],
  ];
  for (const [name, error, wanted] of cases) assert.equal(retryDelayMs(error, 1, 0.5), wanted, name);
});

test('waits grow to a second, and are spread', () => {
  const error = new ClientError('SERVER_UNREACHABLE', 'x');
  const longest = [1, 2, 3, 6, 7, 50].map((tries) => retryDelayMs(error, tries, 1));
  assert.deepEqual(longest, [20, 40, 80, 640, 1000, 1000]);
  assert.equal(retryDelayMs(error, 50, 0), 0);
});
