import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AnswerDelay } from '../../../src/serve/requests/answer-delay.ts';

test('nothing is kept back until there are answers', () => {
  const delay = new AnswerDelay();
  for (let i = 0; i < 63; i++) delay.observe(5);
  assert.equal(delay.engineDeadlineMs(0, 100), 100);
  delay.observe(5);
  assert.equal(delay.engineDeadlineMs(0, 100), 95);
});

test('what 95 % of the answers take at most is kept back, and single slow ones are not', () => {
  const delay = new AnswerDelay();
  for (let i = 0; i < 64; i++) delay.observe(i < 60 ? 2 : 50);
  assert.equal(delay.engineDeadlineMs(10, 110), 108);
  for (let i = 0; i < 64; i++) delay.observe(i < 50 ? 2 : 8);
  assert.equal(delay.engineDeadlineMs(10, 110), 102);
  for (let i = 0; i < 64; i++) delay.observe(0);
  assert.equal(delay.engineDeadlineMs(10, 110), 110, 'answers that are quick again');
});

test('at most a quarter of a request’s time is kept back; what has no deadline gets none', () => {
  const delay = new AnswerDelay();
  for (let i = 0; i < 64; i++) delay.observe(1000);
  assert.equal(delay.engineDeadlineMs(100, 140), 130);
  assert.equal(delay.engineDeadlineMs(100, 90), 90, 'due already');
  assert.equal(delay.engineDeadlineMs(100, Number.POSITIVE_INFINITY), Number.POSITIVE_INFINITY);
});
