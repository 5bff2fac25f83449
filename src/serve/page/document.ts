/** The server's page, as it is sent: one document that needs nothing else, and the policy that holds it to that. */
import { createHash } from 'node:crypto';
import { type Html, html, raw } from '../../report/html.ts';
import { STYLE } from '../../report/style.ts';
import { LIVE_STYLE } from './style.ts';

export interface PageDocument {
  readonly html: string;
  /** Its Content-Security-Policy: what is not in the document does not run, and it asks this server alone. */
  readonly policy: string;
}

/** `script`: what was built of browser/main.ts. */
export function pageDocument(script: string): PageDocument {
  if (/<\/script/i.test(script)) throw new RangeError('the script of the page would end its element');
  const style = STYLE + LIVE_STYLE;
  const policy = [
    "default-src 'none'",
    `script-src ${hashOf(script)}`,
    `style-src ${hashOf(style)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ');
  return { html: `${documentOf(style, script)}\n`, policy };
}

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

function documentOf(style: string, script: string): Html {
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Hotrow server</title>
<style>${raw(style)}</style>
</head>
<body>
<header class="page">
<p class="brand">Hotrow server</p>
<h1 id="title">Models</h1>
<p class="lead" id="status" role="status">Connecting …</p>
<form id="ask" hidden>
<label for="token">This server wants a token</label>
<input id="token" type="password" autocomplete="off" required>
<button>Watch</button>
</form>
<p class="choice" id="choice" hidden><label for="model">Model</label><select id="model"></select></p>
</header>
<main id="live" hidden>
<section aria-labelledby="now"><h2 id="now">Now</h2>
<dl class="tiles" id="tiles"></dl>
<p class="note">Rates, times and means are of the last 10 s.</p>
<div class="charts">
${figure('requests', 'Requests', 'Answered, and refused, failed or given up, in a second.')}
${figure('latency', 'Time to the answer', 'Of requests that were answered, in ms.')}
${figure('queue', 'Queue and batches', 'Samples that wait for an engine, and the mean of a batch.')}
${figure('busy', 'Engines', 'Share of time in which batches are merged, copied and computed.')}
${figure('phases', 'Where the time goes', 'Mean of a request that was answered, in ms.')}
${figure('hot', 'Hot rows', 'Share of lookups that go to hot rows: the 1 % of rows that are looked up most.')}
</div>
</section>
<section aria-labelledby="plan"><h2 id="plan">Plan and traffic</h2>
<p id="fit"></p>
<details><summary>Tables: share of lookups to hot rows</summary><div id="tables"></div></details>
</section>
<section aria-labelledby="counts"><h2 id="counts">Counted</h2>
<div id="outcomes"></div>
</section>
<section aria-labelledby="served"><h2 id="served">Model</h2>
<div class="facts"><dl id="facts"></dl></div>
</section>
<section aria-labelledby="all"><h2 id="all">All models</h2>
<div id="models"></div>
</section>
<section aria-labelledby="server"><h2 id="server">Server</h2>
<div class="facts"><dl id="server-facts"></dl></div>
</section>
</main>
<noscript><p class="noscript">This page shows live figures with a script. Without one, <a href="metrics">/metrics</a> has them as text.</p></noscript>
<footer>The same figures, for Prometheus: <a href="metrics">/metrics</a>. The page asks no other server.</footer>
<script>${raw(script)}</script>
</body>
</html>`;
}

function figure(id: string, title: string, note: string): Html {
  return html`<figure aria-labelledby="${id}-title"><figcaption><h3 id="${id}-title">${title}</h3><p class="note">${note}</p></figcaption><div id="${id}"></div></figure>`;
}
