/** Names and values of files reach the terminal escaped and cut, in tables, notes and errors. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { facebookTensors, torchrecTensors, writeCheckpoint } from '../support/checkpoints.ts';
import { hotrow } from '../support/cli.ts';
import { UNPRINTABLE } from '../support/text.ts';

const STEERING = '\x1b]52;c;eA==\x07\x1b[2J\x9b31m\u202e\x7f';
const FORGED = '\nhint: forged\n';
const HOSTILE = `a${STEERING}${FORGED}z`;
const HUGE = `${HOSTILE}${'x'.repeat(3_000_000)}`;

let folder = '';
const at = (name: string) => join(folder, name);
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-hostile-'));
  // Names of files have at most 255 bytes, names of tensors no dots here.
  await writeCheckpoint(at(`${HOSTILE}.safetensors`), torchrecTensors({ tables: [`t_${HOSTILE}`, 't_1'] }));
  await writeCheckpoint(at('huge.safetensors'), torchrecTensors({ tables: [`t_${HUGE}`, 't_1'] }));
  await writeCheckpoint(
    at('odd.safetensors'),
    new Map([...facebookTensors(), [HUGE, facebookTensors().get('bot_l.0.bias') as never]]),
  );
  await writeFile(at('request.json'), JSON.stringify({ [HUGE]: 1, samples: [{ [HUGE]: 1 }] }));
  await writeFile(at('plan.json'), JSON.stringify({ version: 1, device: 'cpu', kernel: HUGE, [HUGE]: 1 }));
  await writeFile(at('bad.txt'), `1\n${STEERING.replaceAll('\n', '')}${'9'.repeat(1_000_000)}\n`);
  await writeFile(at(`${HOSTILE}.txt`), '1\n2\n3\n');
  const description = {
    kind: 'model',
    version: 1,
    checkpoint: 'huge.safetensors',
    guesses: { [HUGE]: HUGE },
  };
  await writeFile(at('d.hotrow.json'), JSON.stringify(description));
  await writeFile(at('results.json'), JSON.stringify({ kind: HUGE, version: 1 }));
});
after(() => rm(folder, { recursive: true }));

test('in every command', async () => {
  const model = at(`${HOSTILE}.safetensors`);
  const runs: string[][] = [
    ['inspect', model],
    ['inspect', at('huge.safetensors')],
    ['inspect', at('huge.safetensors'), '--verbose', '--interaction', STEERING],
    ['inspect', at('odd.safetensors'), '--verbose'],
    ['inspect', at('d.hotrow.json')],
    ['quantize', model, '--rows', 'int8', '--out', at(`${HOSTILE}.out`)],
    ['predict', model, at('request.json'), '--plan', 'plain'],
    ['predict', model, at('request.json'), '--plan', at('plan.json')],
    ['trace', at(`${HOSTILE}.txt`), '--model', model],
    ['trace', `t_${HOSTILE}=${at(`${HOSTILE}.txt`)}`],
    ['trace', at('bad.txt')],
    ['report', at('results.json'), '--out', at('page.html')],
    [
      'bench',
      '--trace',
      at(`${HOSTILE}.txt`),
      '--rows',
      '9',
      '--tables',
      '1',
      '--dim',
      '8',
      '--batch',
      '1',
      '--bag-lengths',
      '3',
      '--rounds',
      '1',
      '--no-peers',
    ],
  ];
  for (const args of runs) {
    const { stdout, stderr } = await hotrow(...args);
    const all = `${stdout}\n${stderr}`;
    assert.doesNotMatch(all, UNPRINTABLE, args[0]);
    assert.doesNotMatch(all, /^hint: forged/m, args[0]);
    assert.ok(all.length > 20 && all.length < 60_000, `${args}: ${all.length}`);
    assert.doesNotMatch(all, /error\[INTERNAL\]/);
  }
});
