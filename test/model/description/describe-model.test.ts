/** What is written of a model without a description: what was inferred, and what was guessed. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import { describeModel } from '../../../src/model/description/describe-model.ts';
import { parseDescription } from '../../../src/model/description/description.ts';
import { loadArchitecture } from '../../../src/model/load-model.ts';
import {
  facebookTensors,
  type NamedTensors,
  torchrecTensors,
  values,
  writeCheckpoint,
} from '../../support/checkpoints.ts';
import { dlrmOf } from '../../support/models.ts';
import { Random } from '../../support/random.ts';

let folder = '';
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'hotrow-describe-'));
});
after(() => rm(folder, { recursive: true }));

test('what describes a model loads it alike, and what was guessed is marked', async () => {
  const checkpoint = await writeCheckpoint(
    join(folder, 'guessed.safetensors'),
    torchrecTensors({ tables: ['large', 'small'] }),
  );
  await assert.rejects(loadArchitecture(checkpoint), {
    code: 'ARCHITECTURE_AMBIGUOUS',
    message: /in which order/,
  });
  const guesses: Record<string, string> = {};
  const { architecture } = await loadArchitecture(checkpoint, { guesses });
  const described = describeModel(architecture, { checkpoint: basename(checkpoint), guesses });
  assert.match(described.guesses?.['/features'] ?? '', /order is that of the file/);
  assert.deepEqual(parseDescription(described), described);
  await writeFile(join(folder, 'guessed.hotrow.json'), JSON.stringify(described));
  const again = (await loadArchitecture(checkpoint)).architecture;
  assert.deepEqual(
    again.tables.map(({ name, rows }) => [name, rows]),
    architecture.tables.map(({ name, rows }) => [name, rows]),
  );
  assert.match(again.notes?.join('\n') ?? '', /guesses not confirmed in it: .*\/features/);
  // Described once more, what the description says is no guess of its own.
  const found = JSON.parse(await readFile(join(folder, 'guessed.hotrow.json'), 'utf8'));
  const third = describeModel(again, {
    checkpoint: found.checkpoint,
    given: parseDescription({ ...found, guesses: {} }),
  });
  assert.deepEqual(third.guesses, undefined);
});

test('features that cannot be told are written as unknown, and do not load', async () => {
  const checkpoint = await writeCheckpoint(
    join(folder, 'unknown.safetensors'),
    torchrecTensors({ tables: ['t'], features: 2 }),
  );
  const guesses: Record<string, string> = {};
  const { architecture } = await loadArchitecture(checkpoint, { guesses });
  const described = describeModel(architecture, { checkpoint: basename(checkpoint), guesses });
  assert.equal(described.features?.[1]?.table, '?');
  await writeFile(join(folder, 'unknown.hotrow.json'), JSON.stringify(described));
  await assert.rejects(loadArchitecture(checkpoint), {
    code: 'DESCRIPTION_INVALID',
    message: /\/features\/1\/table "\?"/,
  });
});

test('features are guessed to share tables only where the tables alone do not fit', async () => {
  const guessed = async (tensors: NamedTensors) => {
    const file = await writeCheckpoint(join(folder, 'guessing.safetensors'), tensors);
    const guesses: Record<string, string> = {};
    const { tables, interaction } = dlrmOf((await loadArchitecture(file, { guesses })).architecture);
    return { tables: tables.map(({ name }) => name), interaction };
  };
  // Two tables with the diagonal are as wide as three without.
  const diagonal = facebookTensors(3);
  diagonal.delete('emb_l.2.weight');
  assert.deepEqual(await guessed(diagonal), {
    tables: ['emb_l.0', 'emb_l.1'],
    interaction: { kind: 'dot', diagonal: true, order: 'lower' },
  });
  const crossed = torchrecTensors({ tables: ['t_0', 't_1'], features: 3 });
  const random = new Random(7);
  crossed.set('inter_arch.crossnet.kernels.0', values(random, 16, 16));
  crossed.set('inter_arch.crossnet.bias.0', values(random, 16, 1));
  crossed.set('over_arch.model.0._mlp.0._linear.weight', values(random, 6, 16));
  const { tables, interaction } = await guessed(crossed);
  assert.deepEqual([tables, interaction.kind], [['t_0', 't_1', '?'], 'cross']);
});
