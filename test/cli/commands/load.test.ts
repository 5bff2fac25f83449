/** `hotrow load` against a stub of a server. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { LoadResults } from '../../../src/load/results.ts';
import { answer, refuse, StubServer } from '../../load/stub-server.ts';
import { COMMAND, hotrow } from '../../support/cli.ts';

const folder = mkdtempSync(join(tmpdir(), 'hotrow-load-'));
after(() => rmSync(folder, { recursive: true }));

/** Runs the command; its results, where it wrote any. */
async function load(url: string, ...args: string[]) {
  const file = join(folder, `${Math.random()}.json`);
  const { code, stdout, stderr } = await hotrow('load', url, '--warmup', '0', '--json', file, ...args);
  let results: LoadResults | undefined;
  try {
    results = JSON.parse(readFileSync(file, 'utf8'));
  } catch {}
  return { code, stdout, stderr, results, run: results?.runs[0] };
}

test('counts what became of requests, by status and code', async () => {
  await using server = await StubServer.listen(({ samples }, response, n) => {
    if (n % 10 === 0) refuse(response, 503, 'OVERLOADED');
    else if (n % 10 === 1) refuse(response, 504, 'DEADLINE_EXCEEDED');
    else answer(response, samples);
  });
  const report = join(folder, 'load.html');
  const { code, stdout, results, run } = await load(
    server.url.replace('//', '//me:secret@'),
    ...['--rate', '500', '--count', '60', '--processes', '2', '--samples', '3', '--report', report],
  );
  assert.equal(code, 0);
  assert.ok(results !== undefined && run !== undefined);
  const { scheduled, inTime, refused, dropped, failed, unanswered } = run;
  assert.deepEqual([scheduled, inTime, refused, dropped, failed, unanswered], [60, 48, 6, 6, 0, 0]);
  assert.deepEqual(
    run.why.toSorted((a, b) => (a.what < b.what ? -1 : 1)),
    [
      { what: '503 OVERLOADED', count: 6 },
      { what: '504 DEADLINE_EXCEEDED', count: 6 },
    ],
  );
  assert.deepEqual(results.server, {
    url: server.url,
    software: 'stub 3',
    model: 'm',
    features: 2,
    denseFeatures: 2,
  });
  assert.equal(results.generator.processes, 2);
  assert.match(stdout, /80\.0 %/);
  const page = readFileSync(report, 'utf8');
  assert.match(page, /Latency against rate/);
  for (const text of [JSON.stringify(results), stdout, page]) assert.doesNotMatch(text, /secret/);
});

test('ended by a signal to all of its processes, it says so, with what there is', {
  skip: process.platform === 'linux' ? false : 'only Linux lists the children of a process',
}, async () => {
  let asked = 0;
  await using server = await StubServer.listen(({ samples }, response) => {
    asked += 1;
    answer(response, samples);
  });
  const [program, ...first] = COMMAND;
  const args = ['load', server.url, '--warmup', '0', '--rate', '50', '--duration', '1m', '--processes', '2'];
  const child = spawn(program, [...first, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text) => {
      said += text;
    });
  while (asked < 20) await new Promise((resolve) => setTimeout(resolve, 20));
  const children = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, 'utf8').trim().split(' ');
  assert.equal(children.length, 2);
  for (const pid of [...children.map(Number), child.pid as number]) process.kill(pid, 'SIGTERM');
  assert.deepEqual(await once(child, 'close'), [143, null]);
  assert.match(said, /interrupted: the last run was cut short/);
  assert.doesNotMatch(said, /INTERNAL|EPIPE/);
});

test('requests that fail end with 1', async () => {
  await using server = await StubServer.listen((_, response) => refuse(response, 400, 'LENGTHS_INVALID'));
  const { code, run, stderr, stdout } = await load(
    server.url,
    '--rate',
    '500',
    '--count',
    '4',
    '--processes',
    '1',
  );
  assert.equal(code, 1);
  assert.match(stderr, /requests failed at 500\/s/);
  assert.match(stdout, /4 × 400 LENGTHS_INVALID/);
  assert.deepEqual([run?.inTime, run?.failed, run?.latency.count], [0, 4, 0]);
});

test('what cannot be measured is refused, and says why', async () => {
  await using server = await StubServer.listen(() => {});
  const cases: [number, RegExp, ...string[]][] = [
    [2, /--rate in %/, server.url, '--rate', '130%'],
    [2, /p99=10ms/, server.url, '--search', 'fast'],
    // A process of its own says so.
    [2, /no feature x/, server.url, '--rate', '1', '--processes', '1', '--user-features', 'x'],
  ];
  const all = await Promise.all(cases.map(([, , ...args]) => hotrow('load', ...args)));
  all.forEach(({ code, stderr }, i) => {
    const [expected, message] = cases[i] as (typeof cases)[number];
    assert.match(stderr, message);
    assert.equal(code, expected, stderr);
  });
});
