import assert from 'node:assert/strict';
import { test } from 'node:test';
import { escapeHtml, html, raw } from '../../src/report/html.ts';

test('what is put in is escaped once, wherever it stands', () => {
  const hostile = `<script>alert("x")</script> & 'y'`;
  const escaped = '&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; &#39;y&#39;';
  assert.equal(escapeHtml(hostile), escaped);
  assert.equal(
    String(html`<p title="${hostile}">${[hostile, html`<b>${hostile}</b>`]}</p>`),
    `<p title="${escaped}">${escaped}<b>${escaped}</b></p>`,
  );
});

test('numbers stand as they are, undefined is nothing, our own markup is kept', () => {
  assert.equal(String(html`${1.5}${undefined}${raw('<hr>')}`), '1.5<hr>');
});

test('control characters, which HTML does not allow, are escaped; line breaks stay', () => {
  assert.equal(escapeHtml('a\u0000b\u001bc\nd\te'), 'a\\x00b\\x1bc\nd\\te');
});
