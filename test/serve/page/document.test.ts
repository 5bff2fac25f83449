/** The page as it is sent. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { pageDocument } from '../../../src/serve/page/document.ts';

const SCRIPT = 'const x = "</p>";';
const { html, policy } = pageDocument(SCRIPT);
const inside = (tag: string) => new RegExp(`<${tag}>([\\s\\S]*?)</${tag}>`).exec(html)?.[1] ?? '';
const hash = (text: string) => `'sha256-${createHash('sha256').update(text).digest('base64')}'`;

test('its policy lets its own script and style in, and nothing else', () => {
  assert.equal(inside('script'), SCRIPT);
  assert.deepEqual(policy.split('; '), [
    "default-src 'none'",
    `script-src ${hash(inside('script'))}`,
    `style-src ${hash(inside('style'))}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ]);
});

test('it names no other place, and has no style or script in attributes', () => {
  assert.deepEqual(
    [...html.matchAll(/(?:src|href|action)="([^"]*)"/g)].map(([, url]) => url),
    ['data:,', 'metrics', 'metrics'],
  );
  assert.doesNotMatch(html.replace(/<(style|script)>[\s\S]*?<\/\1>/g, ''), /\s(style|on\w+)=|https?:/);
});

test('a script that would end its element is none', () => {
  assert.throws(() => pageDocument('x = "</SCRIPT>"'), RangeError);
});
