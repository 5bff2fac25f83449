/** Choices of matrix products, kept from process to process, over the fake device. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import {
  type ChoicesIdentity,
  defaultChoicesFolder,
  KeptChoices,
} from '../../../../src/backend/cuda/dense/kept-choices.ts';
import { DlrmModel } from '../../../../src/model/dlrm.ts';
import { refuseEmulation } from '../../../emulation/emulator.ts';
import { fake, fakeLt, openFakeBackend } from '../../../fake-driver/open-backend.ts';
import { SOME_CHOICES } from '../../../support/choices.ts';
import { smallModel, smallRequest } from '../../../support/models.ts';
import { Random } from '../../../support/random.ts';

const root = mkdtempSync(join(tmpdir(), 'hotrow-choices-'));
after(() => rmSync(root, { recursive: true }));
const newFolder = () => mkdtempSync(join(root, 'own-'));

const PRODUCT = {
  kind: 'product',
  algorithm: Array.from({ length: 8 }, (_, i) => (i * 77).toString(16)),
  workspaceBytes: 4096,
  fused: true,
  finished: false,
  scaled: false,
  rounds: false,
} as const;

const CROSS = { kind: 'cross', columns: 128 } as const;

describe('the file', () => {
  function open(folder: string, change: Partial<ChoicesIdentity> = {}) {
    const warnings: string[] = [];
    const kept = new KeptChoices(
      { ...SOME_CHOICES, ...change },
      { folder, onWarning: (text) => warnings.push(text) },
    );
    return { kept, warnings };
  }

  test('gives back what was kept, to the same device and versions alone', () => {
    const folder = newFolder();
    const { kept } = open(folder);
    assert.equal(kept.get('a shape'), undefined);
    kept.keep('a shape', PRODUCT);
    kept.keep('another', { kind: 'direct' });
    kept.keep('a cross', CROSS);
    const again = open(folder);
    assert.deepEqual(again.kept.get('a shape'), PRODUCT);
    assert.deepEqual(again.kept.get('another'), { kind: 'direct' });
    assert.deepEqual(again.kept.get('a cross'), CROSS);
    assert.deepEqual(again.warnings, []);
    for (const change of [
      { device: 'another GPU' },
      { multiprocessors: 66 },
      { precision: 'float16' },
      { cublasLt: '13.2.0' },
      { hotrow: '1.2.4' },
    ])
      assert.equal(open(folder, change).kept.get('a shape'), undefined, JSON.stringify(change));
    assert.equal(readdirSync(folder).length, 1, 'nothing unfinished is left');
  });

  test('holds what several processes kept', () => {
    const folder = newFolder();
    const [one, two] = [open(folder).kept, open(folder).kept];
    one.keep('one', { kind: 'direct' });
    two.keep('two', PRODUCT);
    const { kept } = open(folder);
    assert.deepEqual([kept.get('one'), kept.get('two')], [{ kind: 'direct' }, PRODUCT]);
  });

  test('that is damaged is left aside with a note, and written anew', () => {
    const folder = newFolder();
    const { kept } = open(folder);
    kept.keep('good', PRODUCT);
    const good = readFileSync(kept.file, 'utf8');
    for (const text of [
      '',
      '{"version": 5',
      '[]',
      good.replace('"version": 5', '"version": 4'),
      good.replace('a GPU', 'x'),
    ]) {
      writeFileSync(kept.file, text);
      const damaged = open(folder);
      assert.equal(damaged.kept.get('good'), undefined);
      assert.match(damaged.warnings.join(), /is damaged, and left aside/);
      damaged.kept.keep('new', PRODUCT);
      assert.deepEqual(open(folder).kept.get('new'), PRODUCT);
    }
  });

  test('single damaged choices are left aside', () => {
    const folder = newFolder();
    const { kept } = open(folder);
    kept.keep('good', PRODUCT);
    kept.keep('bad', PRODUCT);
    kept.keep('worse', { kind: 'direct' });
    const content = JSON.parse(readFileSync(kept.file, 'utf8'));
    content.choices.bad.algorithm[0] = 'not a number';
    content.choices.worse.kind = 'magic';
    writeFileSync(kept.file, JSON.stringify(content));
    const again = open(folder);
    assert.deepEqual(
      ['good', 'bad', 'worse'].map((shape) => again.kept.get(shape)),
      [PRODUCT, undefined, undefined],
    );
    assert.match(again.warnings.join(), /2 damaged choices/);
  });

  test('that cannot be written is a note, once', () => {
    const blocked = join(newFolder(), 'file');
    writeFileSync(blocked, '');
    const { kept, warnings } = open(join(blocked, 'below'));
    kept.keep('a', PRODUCT);
    kept.keep('b', PRODUCT);
    assert.deepEqual(kept.get('a'), PRODUCT);
    assert.equal(warnings.filter((text) => text.includes('cannot be written')).length, 1);
  });

  test('lies in the cache of the user', () => {
    assert.equal(defaultChoicesFolder({ XDG_CACHE_HOME: '/cache' }), '/cache/hotrow/products');
  });
});

describe('a model that is loaded again', { skip: refuseEmulation() }, () => {
  afterEach(() => {
    fakeLt.setAlgorithms(3);
    assert.deepEqual(fake.live(), {}, 'all was given back');
  });

  const architecture = smallModel(new Random(1), 'cross');
  /** Two cross layers of low rank. */
  const CROSS_PRODUCTS = 4;
  const request = smallRequest(new Random(2), architecture, 20);

  /** Products that a load and a prediction run, and its probabilities. */
  async function predict(folder: string, { atOnce = 1 } = {}) {
    const warnings: string[] = [];
    const before = fakeLt.products();
    using backend = openFakeBackend({
      linearSearch: { candidates: 3, rounds: 2, runs: 2 },
      choices: { folder, onWarning: (text) => warnings.push(text) },
    });
    await using model = await DlrmModel.create(backend, architecture, { plan: 'plain' });
    const all = await Promise.all(Array.from({ length: atOnce }, () => model.predict(request)));
    const probabilities = all.flatMap((one) => [...one.probabilities]);
    return { probabilities, products: fakeLt.products() - before, warnings };
  }

  test('measures nothing, and computes the same', async () => {
    const folder = newFolder();
    const first = await predict(folder);
    const [name] = readdirSync(folder) as [string];
    const kept = readFileSync(join(folder, name), 'utf8');
    const again = await predict(folder);
    assert.deepEqual(again.probabilities, first.probabilities);
    // A trial of each of the kept products, and the work itself.
    const { choices } = JSON.parse(kept) as { choices: Record<string, { kind: string }> };
    const products = Object.values(choices).filter(({ kind }) => kind === 'product').length;
    assert.ok(products > 0);
    const { bottom, top } = architecture;
    const layers = bottom.length + top.length + CROSS_PRODUCTS;
    assert.ok(again.products <= products + layers, `${again.products} products ran for ${products} shapes`);
    assert.ok(again.products < first.products);
    assert.equal(readFileSync(join(folder, name), 'utf8'), kept);
    assert.deepEqual([...first.warnings, ...again.warnings], []);
  });

  test('batches side by side are measured once, also where nothing can be kept', async () => {
    const folder = join(newFolder(), 'a file');
    writeFileSync(folder, '');
    const alone = await predict(folder);
    const both = await predict(folder, { atOnce: 2 });
    const layers = architecture.bottom.length + architecture.top.length + CROSS_PRODUCTS;
    // A trial of each, and the work itself.
    assert.ok(both.products <= alone.products + 2 * layers, `${both.products} after ${alone.products}`);
    assert.deepEqual(both.probabilities, [...alone.probabilities, ...alone.probabilities]);
    assert.match(both.warnings.join(), /cannot be read|cannot be written/);
  });

  test('measures anew what cannot be run any more', async () => {
    const folder = newFolder();
    const first = await predict(folder);
    const [name] = readdirSync(folder) as [string];
    const file = join(folder, name);
    const content = JSON.parse(readFileSync(file, 'utf8'));
    for (const choice of Object.values(content.choices) as { algorithm?: string[] }[])
      if (choice.algorithm !== undefined) choice.algorithm[0] = 'ff';
    writeFileSync(file, JSON.stringify(content));
    const again = await predict(folder);
    assert.deepEqual(
      again.probabilities.map((value) => value.toFixed(4)),
      first.probabilities.map((value) => value.toFixed(4)),
    );
    assert.match(again.warnings.join(), /cannot be run here, and is measured anew/);
    assert.ok(!readFileSync(file, 'utf8').includes('"ff"'), 'and kept');
  });
});
