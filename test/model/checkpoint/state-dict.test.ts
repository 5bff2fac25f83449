import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HotrowError } from '../../../src/errors.ts';
import { conventionOf } from '../../../src/model/checkpoint/naming.ts';
import {
  findStateDict,
  type StateDictOptions,
  savedEntries,
} from '../../../src/model/checkpoint/state-dict.ts';
import { facebookTensors, torchrecTensors } from '../../support/checkpoints.ts';

class Leaf {
  constructor(readonly name: string) {}
}
const isLeaf = (value: unknown): value is Leaf => value instanceof Leaf;

const NAMES = [...facebookTensors(2).keys()];
const dict = (names: readonly string[], prefix = '') =>
  new Map<unknown, unknown>(names.map((name) => [prefix + name, new Leaf(prefix + name)]));

const find = (saved: unknown, options?: StateDictOptions) =>
  findStateDict(savedEntries(saved, isLeaf), options);

function refuses(
  saved: unknown,
  code: HotrowError['code'],
  pattern: RegExp,
  options?: StateDictOptions,
): void {
  assert.throws(
    () => find(saved, options),
    (error: unknown) => {
      assert.ok(error instanceof HotrowError, String(error));
      assert.equal(error.code, code, error.message);
      assert.match(`${error.message} ${error.hint}`, pattern);
      assert.doesNotMatch(error.message, /\(\?|\\d|\.\*/, 'no regular expressions in messages');
      return true;
    },
  );
}

describe('wrappers and prefixes', () => {
  for (const prefix of [
    '',
    'module.',
    '_orig_mod.',
    'module._orig_mod.',
    'model.',
    'net.',
    'dlrm.',
    'my.own.wrapper_7.',
    '_fsdp_wrapped_module._checkpoint_wrapped_module.',
    '_dmp_wrapped_module.module.dlrm_model.',
  ]) {
    test(`${prefix || 'none'}`, () => {
      for (const names of [NAMES, [...torchrecTensors({ tables: ['a', 'b'] }).keys()]]) {
        const { tensors, model } = find(dict(names, prefix));
        assert.deepEqual([...tensors.keys()], names);
        assert.ok(model !== undefined);
      }
    });
  }

  test('wrappers within names come off', () => {
    const inner = NAMES.map((name) => name.replace('bot_l.', 'bot_l._checkpoint_wrapped_module.module.'));
    assert.deepEqual([...find(dict(inner)).tensors.keys()], NAMES);
  });

  test('a name with and without its wrapper is refused', () => {
    refuses(dict([...NAMES, 'module.emb_l.0.weight']), 'CHECKPOINT_INCONSISTENT', /twice/);
  });
});

describe('what stands beside the model', () => {
  for (const keys of [
    ['state_dict'],
    ['model'],
    ['model', 'dlrm'],
    ['net'],
    ['anything', 'else'],
    ['ema_state_dict'],
  ]) {
    test(`under ${keys.join('.')}, an optimizer beside it`, () => {
      const saved = keys.reduceRight<unknown>(
        (inner, key) =>
          new Map<unknown, unknown>([
            [key, inner],
            ['optimizer', new Map([['state', new Map([[0, new Map([['exp_avg', new Leaf('moment')]])]])]])],
            ['epoch', 3],
          ]),
        dict(NAMES),
      );
      const { tensors, notes } = find(saved);
      assert.deepEqual([...tensors.keys()], NAMES);
      assert.match(notes.join('\n'), /left aside: .*exp_avg/);
    });
  }

  test('a Lightning module with losses and metrics beside and within the model', () => {
    const saved = dict(NAMES, 'net.');
    for (const name of [
      'train_auroc.preds',
      'criterion.pos_weight',
      'net.loss_fn.weight',
      'net.val_metrics.ne.total',
    ])
      saved.set(name, new Leaf(name));
    const { tensors, notes } = find(new Map([['state_dict', saved]]));
    assert.deepEqual([...tensors.keys()], NAMES);
    assert.match(notes.join('\n'), /under "state_dict\.net\."/);
    assert.match(notes.join('\n'), /left aside: 4 tensors \(state_dict\.train_auroc\.preds, /);
  });

  test('a copy behind another name stays aside; two of equal standing are refused, and a prefix decides', () => {
    const two = new Map([
      ['state_dict', dict(NAMES)],
      ['ema', dict(NAMES)],
    ]);
    assert.match(find(two).notes.join('\n'), /left aside: 10 tensors \(ema\./);
    const equal = new Map([
      ['a', dict(NAMES)],
      ['b', dict(NAMES)],
    ]);
    refuses(equal, 'ARCHITECTURE_AMBIGUOUS', /2 models .*"a\.", "b\."/);
    assert.equal(find(equal, { prefix: 'b.' }).notes[0], 'the model stands under "b."');
    refuses(equal, 'DESCRIPTION_INVALID', /prefixes with tables: "a\.", "b\."/, { prefix: 'c.' });
  });

  test('a whole model within the same dict stays aside: an average, and what counts its steps', () => {
    const names = [...NAMES, ...NAMES.map((name) => `ema.${name}`), 'n_averaged'];
    const { tensors, notes } = find(dict(names));
    assert.deepEqual([...tensors.keys()], NAMES);
    assert.match(notes.join('\n'), /left aside: 11 tensors \(ema\./);
    assert.equal(find(dict(names), { prefix: '' }).tensors.size, NAMES.length);
    assert.equal(
      find(dict(names), { prefix: 'ema.' }).tensors.get(NAMES[0] as string)?.name,
      `ema.${NAMES[0]}`,
    );
  });

  test('buffers of losses and metrics are told from what computes', () => {
    for (const name of [
      'train_auc',
      'val_ne.total',
      'loss_fn.weight',
      'precision.total',
      'test_f1_mean.value',
    ])
      assert.match(find(dict([...NAMES, name])).notes.join('\n'), /left aside: 1 tensor/, name);
    for (const name of ['scaler.mean', 'input_scaler.scale', 'precision_head.weight', 'calibration.weight'])
      refuses(dict([...NAMES, name]), 'CHECKPOINT_UNSUPPORTED', /1 parameter has no place/);
  });

  test('tables and layers under different prefixes are named', () => {
    const saved = new Map([
      ['sparse', dict(NAMES.filter((name) => name.startsWith('emb_l')))],
      ['dense', dict(NAMES.filter((name) => !name.startsWith('emb_l')))],
    ]);
    refuses(
      saved,
      'CHECKPOINT_INCONSISTENT',
      /tables stand under the prefix "sparse\.", the layers under "dense\."/,
    );
  });

  test('dicts that hold themselves, or each other in many ways, end', () => {
    const saved = dict(NAMES);
    saved.set('self', saved);
    let knot = new Map<unknown, unknown>([['x', new Leaf('x')]]);
    for (let depth = 0; depth < 60; depth++)
      knot = new Map([
        ['a', knot],
        ['b', knot],
      ]);
    saved.set('knot', knot);
    assert.deepEqual([...find(saved).tensors.keys()], NAMES);
  });
});

describe('what computes something else', () => {
  const torchrec = [...torchrecTensors({ tables: ['a', 'b'] }).keys()];
  for (const [name, pattern] of [
    ['emb_l.0.weight_q', /quotient-remainder/],
    ['emb_l.1.proj.weight', /mixed-dimension/],
    ['bot_l.1.running_mean', /batch normalisation/],
    ['attention.in_proj_weight', /attention/],
    ['top_l.1.layer_norm.weight', /layer normalisation/],
    ['inter_arch.crossnet.U_kernels.0', /mixture-of-experts/],
    ['gate.weight', /gate\.weight/],
    ['bot_l.0.weight_g', /parametrised weights/],
    ['bot_l.0.parametrizations.weight.original0', /parametrised weights/],
    ['bot_l.0.zero_point', /layers that PyTorch quantised/],
  ] as const) {
    test(name, () => {
      const names = name.startsWith('inter_arch') ? torchrec : NAMES;
      refuses(dict([...names, name], 'net.'), 'CHECKPOINT_UNSUPPORTED', pattern);
    });
  }
});

describe("a description's names", () => {
  const own = {
    'towers.{i}.weight': 'bottom.{i}.weight',
    'towers.{i}.bias': 'bottom.{i}.bias',
    'head.{2i}.weight': 'top.{i}.weight',
    'head.{2i}.bias': 'top.{i}.bias',
    'ids.{name}': 'tables.{name}.weight',
    'calibration.{name}': null,
  };
  const names = ['ids.ads', 'ids.users', 'towers.0.weight', 'towers.0.bias', 'head.0.weight', 'head.0.bias'];

  test("become Hotrow's", () => {
    const { model, notes } = find(dict([...names, 'calibration.scale'], 'net.'), {
      convention: conventionOf(own),
    });
    assert.deepEqual(
      [...(model?.parameters ?? [])].map(([key]) => key),
      [
        'tables.ads.weight',
        'tables.users.weight',
        'bottom.0.weight',
        'bottom.0.bias',
        'top.0.weight',
        'top.0.bias',
      ],
    );
    assert.match(notes.join('\n'), /left aside: 1 tensor \(net\.calibration\.scale\)/);
  });

  test('that map two parameters to one, or to no name of Hotrow, are refused', () => {
    const twice = { ...own, 'more.{i}.weight': 'bottom.{i}.weight' };
    refuses(
      dict([...names, 'more.0.weight']),
      'DESCRIPTION_INVALID',
      /^\/names: towers\.0\.weight and more\.0\.weight both stand for bottom\.0\.weight/,
      {
        convention: conventionOf(twice),
      },
    );
    for (const to of [
      'bottom.weight',
      'top.{i}.scale',
      'tables.{name}.weights',
      'emb_l.0.weight',
      'bottom.{j}.weight',
    ])
      assert.throws(() => conventionOf({ 'a.{i}': to }), { code: 'DESCRIPTION_INVALID' }, to);
  });
});
