/** Heads of callers: what is refused before any work, and the programs that are made of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { matrix } from '../../src/backend/backend.ts';
import { openBackend } from '../../src/backend/open-backend.ts';
import { Workspace } from '../../src/backend/workspace.ts';
import type { BlocksArchitecture } from '../../src/model/architecture.ts';
import type { Block } from '../../src/model/block-list.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { headOf } from '../../src/model/head.ts';
import { PlacedHead } from '../../src/model/placed-head.ts';
import { branchingModel, deepFmModel, smallModel, tablesModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';

type Model = Parameters<typeof headOf>[0];

async function programOf(architecture: Model) {
  using backend = new ReferenceBackend();
  using head = await PlacedHead.place({ backend, precision: 'float32' }, headOf(architecture));
  const { block, made } = Workspace.of(backend, (workspace) => head.program(8, workspace));
  using _ = block;
  const { operations, outputs, dense } = made;
  return { operations, outputs, dense, named: operations.map(({ op, stage }) => `${op} ${stage}`) };
}

describe('programs', () => {
  test("a DLRM's copies the bottom MLP's output once, beside the products", async () => {
    const { named } = await programOf(smallModel(new Random(1), 'dot-lower'));
    assert.deepEqual(named, [
      'linear bottomMs',
      'linear bottomMs',
      'copy interactionMs',
      'dotInteraction interactionMs',
      'linear topMs',
      'linear topMs',
    ]);
  });

  test('concatenation and cross layers copy nothing', async () => {
    for (const kind of ['cat', 'cross'] as const) {
      const { named } = await programOf(smallModel(new Random(1), kind));
      assert.ok(!named.some((name) => name.startsWith('copy')), kind);
    }
  });

  test('blocks with the same inputs share them; SimpleDeepFMNN copies one value once', async () => {
    const { named } = await programOf(deepFmModel(new Random(1)));
    assert.deepEqual(named, [
      'linear bottomMs',
      'linear bottomMs',
      'copy interactionMs',
      'linear interactionMs',
      'rowFunction interactionMs',
      'linear topMs',
    ]);
  });

  test('what the host fills or reads has no gaps between rows', async () => {
    const { outputs, dense } = await programOf(branchingModel(new Random(1)));
    for (const { cols, stride } of [...outputs, ...(dense === undefined ? [] : [dense])]) {
      assert.equal(stride, cols);
    }
    assert.deepEqual(
      outputs.map(({ cols }) => cols),
      [3, 1, 24, 6],
    );
  });

  test('tables alone have no operation but their lookups', async () => {
    const { operations, outputs, dense } = await programOf(tablesModel(new Random(1)));
    assert.deepEqual([operations.length, outputs.length, dense], [0, 1, undefined]);
  });
});

describe('architectures of callers', () => {
  const good = deepFmModel(new Random(2));
  const block = (i: number, change: object): BlocksArchitecture => ({
    ...good,
    blocks: good.blocks.map((own, b) => (b === i ? ({ ...own, ...change } as Block) : own)),
  });
  for (const [what, architecture, code, message] of [
    [
      'an unknown input',
      block(1, { inputs: ['bottom', 'poled'] }),
      'CHECKPOINT_INCONSISTENT',
      /"deep" takes "poled"/,
    ],
    [
      'a cycle',
      block(0, { inputs: ['dense', 'top'] }),
      'CHECKPOINT_INCONSISTENT',
      /does not stand before it/,
    ],
    ['no inputs', block(2, { inputs: [] }), 'CHECKPOINT_INCONSISTENT', /"fm" takes nothing/],
    [
      'a width',
      block(3, { inputs: ['bottom', 'deep', 'fm', 'pooled'] }),
      'CHECKPOINT_INCONSISTENT',
      /top\.0 takes 20 inputs, it gets 44/,
    ],
    [
      'a reserved name',
      block(2, { name: 'pooled' }),
      'CHECKPOINT_INCONSISTENT',
      /"pooled" stands for two things/,
    ],
    [
      'an unused block',
      { ...good, outputs: ['deep'] },
      'CHECKPOINT_INCONSISTENT',
      /nothing takes what block "top" gives/,
    ],
    ['no output', { ...good, outputs: [] }, 'CHECKPOINT_INCONSISTENT', /no output/],
    [
      'dense features that nothing takes',
      { ...tablesModel(new Random(3)), denseFeatures: 2 },
      'CHECKPOINT_INCONSISTENT',
      /no block takes "dense"/,
    ],
    [
      'a logit of pooled rows',
      { ...tablesModel(new Random(3)), output: 'logit' },
      'CHECKPOINT_INCONSISTENT',
      /logit/,
    ],
    ['an unknown kind', block(2, { kind: 'fm' }), 'OPTION_INVALID', /kind/],
    ['an option of another kind', block(2, { layers: [] }), 'OPTION_INVALID', /layers/],
    ['an unknown part', block(2, { part: 'middle' }), 'OPTION_INVALID', /part/],
    ['blocks that are no list', { ...good, blocks: 'top' }, 'OPTION_INVALID', /blocks/],
    ["a DLRM's parts beside blocks", { ...good, top: [] }, 'OPTION_INVALID', /top/],
  ] as const) {
    test(`${what}: refused`, async () => {
      using backend = new ReferenceBackend();
      await assert.rejects(DlrmModel.create(backend, architecture as never), { code, message });
    });
  }

  test('their own parts are what times count for', () => {
    const { blocks } = headOf(branchingModel(new Random(4)));
    assert.deepEqual(
      blocks.map(({ block: { name }, part }) => [name, part]),
      [
        ['bottom', 'bottom'],
        ['raw', 'interaction'],
        ['pairs', 'top'],
        ['crossed', 'interaction'],
        ['fm', 'interaction'],
        ['ctr', 'top'],
        ['cvr', 'top'],
      ],
    );
  });
});

test('programs of callers: a function of rows is checked like other operations', async () => {
  const { backend } = openBackend({ device: 'cpu', threads: 1 });
  using _ = backend;
  using buffer = backend.allocate(64);
  const good = {
    op: 'rowFunction',
    function: 'factorizationMachine',
    input: matrix(buffer, 4, 8),
    output: matrix(buffer, 4, 1, 40),
  } as const;
  await backend.run([good]);
  for (const change of [
    { function: 'fm' },
    { output: matrix(buffer, 4, 2, 40) },
    { output: matrix(buffer, 3, 1, 40) },
    { output: matrix(buffer, 4, 1, 8) },
    { input: matrix(buffer, 4, 20) },
    { more: 1 },
  ])
    await assert.rejects(backend.run([{ ...good, ...change } as never]), { code: 'OPTION_INVALID' });
});
