/** Heads of callers: what is refused before any work, and the programs that are made of them. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type CopyOperation,
  type DotInteractionOperation,
  formatOf,
  type LinearOperation,
  matrix,
  type Operation,
  type PlacedLinear,
} from '../../src/backend/backend.ts';
import { checkFormats } from '../../src/backend/formats.ts';
import { openBackend } from '../../src/backend/open-backend.ts';
import { Workspace } from '../../src/backend/workspace.ts';
import type { DensePrecision, DeviceDescription } from '../../src/device.ts';
import type { BlocksArchitecture } from '../../src/model/architecture.ts';
import type { Block } from '../../src/model/block-list.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { headOf } from '../../src/model/head.ts';
import { PlacedHead } from '../../src/model/placed-head.ts';
import { branchingModel, deepFmModel, smallModel, tablesModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceBackend } from '../support/reference-backend.ts';

type Model = Parameters<typeof headOf>[0];

/** Says that its layers multiply as they were asked to; they never run. */
class AnyPrecision extends ReferenceBackend {
  override placeLinear(
    weight: Float32Array,
    bias: Float32Array | undefined,
    outputs: number,
    inputs: number,
    precision: DensePrecision = 'float32',
  ): PlacedLinear {
    const placed = super.placeLinear(weight, bias, outputs, inputs);
    return Object.defineProperty(placed, 'precision', { value: precision });
  }
}

async function programOf(architecture: Model, precision: DensePrecision = 'float32') {
  using backend = new AnyPrecision();
  using head = await PlacedHead.place({ backend, precision }, headOf(architecture));
  const { block, made } = Workspace.of(backend, (workspace) => head.program(8, workspace));
  using _ = block;
  const { operations, outputs, dense, pooled } = made;
  return { operations, outputs, dense, pooled, named: operations.map(({ op, stage }) => `${op} ${stage}`) };
}

/** What operations read and write, as `format: input → output`. */
const formatsIn = (operations: readonly Operation[]) =>
  operations.map((operation) =>
    'input' in operation && 'output' in operation
      ? `${operation.op}: ${formatOf(operation.input)} → ${formatOf(operation.output)}`
      : operation.op,
  );

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

  test('16-bit precisions keep 16 bits from the first layer to the last, and convert nothing between', async () => {
    for (const kind of ['dot-lower', 'cat', 'cross'] as const) {
      const model = smallModel(new Random(1), kind);
      const { operations, named, pooled, dense, outputs } = await programOf(model, 'float16');
      assert.deepEqual(named, (await programOf(model)).named, 'the same operations');
      assert.deepEqual(
        [dense, pooled, ...outputs].map((m) => m && formatOf(m)),
        ['float32', 'float16', 'float32'],
      );
      const [first, ...rest] = formatsIn(operations);
      assert.equal(first, 'linear: float32 → float16');
      assert.equal(rest.pop(), 'linear: float16 → float32');
      for (const own of rest) assert.match(own, /: float16 → float16$/);
    }
  });

  test('a dot interaction fills rows with zeros, where what follows multiplies 16 bits', async () => {
    // 12 columns of the bottom MLP and 6 pairs; rows are multiples of 8.
    for (const [precision, padding] of [
      ['float16', 6],
      ['bfloat16', 6],
      ['tf32', undefined],
    ] as const) {
      const { operations } = await programOf(smallModel(new Random(1), 'dot-lower'), precision);
      const dot = operations.find(({ op }) => op === 'dotInteraction') as DotInteractionOperation;
      const top = operations.filter((operation) => operation.op === 'linear')[2] as LinearOperation;
      const copy = operations.find(({ op }) => op === 'copy') as CopyOperation;
      assert.deepEqual(
        [dot.output.padding, top.input.padding, copy.output.padding],
        [padding, padding, undefined],
      );
      assert.equal(dot.output.stride, precision === 'tf32' ? 20 : 24);
    }
  });

  test('what the host reads is float32, and what blocks take of it a copy of 16 bits', async () => {
    for (const model of [
      branchingModel(new Random(1)),
      deepFmModel(new Random(1)),
      tablesModel(new Random(1)),
    ]) {
      const { operations, outputs } = await programOf(model, 'bfloat16');
      for (const { format } of outputs) assert.equal(format, 'float32');
      checkFormats(operations, {
        capabilities: { precisions: ['bfloat16'] },
      } as unknown as DeviceDescription);
    }
  });

  test('blocks that take 16 bits get a copy of dense features, and nothing else', async () => {
    const { tables } = tablesModel(new Random(1));
    const fm = { kind: 'factorization-machine' } as const;
    const blocks: Block[] = [
      { name: 'dense pairs', ...fm, inputs: ['dense'] },
      { name: 'again', ...fm, inputs: ['dense'] },
      { name: 'pooled pairs', ...fm, inputs: ['pooled'] },
    ];
    const outputs = blocks.map(({ name }) => name);
    const model = { naming: 'synthetic', denseFeatures: 5, tables, blocks, outputs } as const;
    const ofOne = 'rowFunction: float16 → float16';
    const { operations } = await programOf(model, 'float16');
    assert.deepEqual(formatsIn(operations), [
      'copy: float32 → float16',
      ...[ofOne, ofOne, ofOne],
      ...outputs.map(() => 'copy: float16 → float32'),
    ]);
  });

  test('only what stands last in its rows fills them with zeros', async () => {
    const { bottom, interaction, top, ...model } = smallModel(new Random(1), 'dot-lower');
    const blocks = [
      { name: 'bottom', kind: 'mlp', layers: bottom, inputs: ['dense'] },
      { name: 'interaction', ...interaction, inputs: ['bottom', 'pooled'] },
      { name: 'top', kind: 'mlp', layers: top, inputs: ['interaction', 'bottom'] },
    ] as Block[];
    const { operations } = await programOf({ ...model, blocks, outputs: ['top'] }, 'float16');
    for (const operation of operations)
      if ('input' in operation) assert.equal(operation.input.padding, undefined, operation.op);
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
