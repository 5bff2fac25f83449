/** What is placed knows its device, and an operation that mixes devices is refused before any work. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { type Backend, matrix, type Operation } from '../../src/backend/backend.ts';
import { CpuBackend } from '../../src/backend/cpu/cpu-backend.ts';
import { deviceOf } from '../../src/backend/devices.ts';
import { GuardedBackend } from '../../src/backend/guarded/backend.ts';
import { DlrmModel } from '../../src/model/dlrm.ts';
import { plainPlan } from '../../src/plan/plan.ts';
import { randomTable } from '../support/cases.ts';
import { smallModel } from '../support/models.ts';
import { Random } from '../support/random.ts';
import { ReferenceGpu } from '../support/reference-gpu.ts';

/** Everything that a backend places, of sizes that fit each other. */
async function placedOn(backend: Backend) {
  const table = randomTable(new Random(1), { rows: 4, dim: 2 });
  const tables = await backend.placeTables([table], plainPlan(backend.device.kind));
  const bags = [{ indices: Int32Array.of(0, 1), offsets: Int32Array.of(0, 1) }];
  return {
    tables,
    bags: backend.placeBags(tables, { batchSize: 2, bags }),
    layer: backend.placeLinear(new Float32Array(4), undefined, 2, 2, 'float32'),
    from: matrix(backend.allocate(4), 2, 2),
    to: matrix(backend.allocate(4), 2, 2),
  };
}

type Placed = Awaited<ReturnType<typeof placedOn>>;

/** Operations whose first member is on one device and whose last is on another, with both members' names. */
function mixed(one: Placed, other: Placed): [names: [string, string], operation: Operation][] {
  const linear = { op: 'linear', activation: 'none' } as const;
  const bags = { op: 'embeddingBags', bags: one.bags, checking: 'error' } as const;
  return [
    [['tables', 'output'], { ...bags, tables: one.tables, output: other.to }],
    [['layer', 'input'], { ...linear, layer: one.layer, input: other.from, output: one.to }],
    [['layer', 'output'], { ...linear, layer: one.layer, input: one.from, output: other.to }],
    [
      ['layer', 'cross.x'],
      {
        ...{ ...linear, layer: one.layer, input: one.from, output: one.to },
        cross: { x0: one.from, x: other.from },
      },
    ],
    [
      ['input', 'output'],
      {
        ...{ op: 'dotInteraction', input: one.from, features: 2, dim: 1, diagonal: true, order: 'lower' },
        ...{ precision: 'float32', output: matrix(other.to.buffer, 1, 3) },
      },
    ],
    [['input', 'output'], { op: 'copy', input: one.from, output: other.to }],
  ];
}

describe('devices of a program', () => {
  test('what is placed says where it is', async () => {
    using cpu = new CpuBackend({ threads: 1 });
    for (const backend of [cpu, new GuardedBackend(cpu), new ReferenceGpu()]) {
      const { tables, layer, from, to } = await placedOn(backend);
      for (const { device } of [tables, layer, from.buffer, tables.withPlan(tables.plan)])
        assert.equal(device, backend.device);
      assert.equal(deviceOf({ op: 'copy', input: from, output: to }, 'program[0]'), backend.device);
    }
  });

  test('operations that mix devices are refused on either, and name both', async () => {
    using cpu = new CpuBackend({ threads: 1 });
    using gpu = new ReferenceGpu();
    const [own, other] = [await placedOn(cpu), await placedOn(gpu)];
    for (const [[first, last], operation] of mixed(own, other)) {
      const refusal = {
        code: 'OPTION_INVALID',
        message: `program[1] mixes devices: ${first} on cpu, ${last} on cuda:0`,
      };
      for (const [backend, { from, to }] of [
        [cpu, own],
        [gpu, other],
      ] as const) {
        const good: Operation = { op: 'copy', input: from, output: to };
        await assert.rejects(backend.run([good, operation]), refusal);
        assert.throws(() => backend.prepare([good, operation]), refusal);
      }
    }
  });

  test('an operation of another device is refused, and names both', async () => {
    using cpu = new CpuBackend({ threads: 1 });
    using gpu = new ReferenceGpu();
    const { from, to } = await placedOn(gpu);
    const out = new Float32Array(4);
    for (const operation of [
      { op: 'copy', input: from, output: to },
      { op: 'upload', source: out, output: to },
      { op: 'download', input: from, target: out },
    ] as const) {
      await assert.rejects(cpu.run([operation]), {
        code: 'OPTION_INVALID',
        message: 'program[0] is on cuda:0, and was given to cpu',
      });
    }
  });

  test('callers are told both devices too', async () => {
    using cpu = new GuardedBackend(new CpuBackend({ threads: 1 }));
    using gpu = new GuardedBackend(new ReferenceGpu());
    const [own, other] = [await placedOn(cpu), await placedOn(gpu)];
    for (const [[, last], operation] of mixed(own, other)) {
      await assert.rejects(cpu.run([operation]), {
        code: 'OPTION_INVALID',
        message: new RegExp(`^program\\[0\\]: ${last}.* gave on cpu, not one on cuda:0$`),
      });
    }
    const { tables } = other;
    assert.throws(() => cpu.placeBags(tables, { batchSize: 0, bags: [] }), {
      code: 'OPTION_INVALID',
      message: /expected tables that this backend gave on cpu, not one on cuda:0$/,
    });
    // Another backend of the same device: one GPU opened twice, say.
    using again = new GuardedBackend(new CpuBackend({ threads: 1 }));
    await assert.rejects(again.run([{ op: 'copy', input: own.from, output: own.to }]), {
      code: 'OPTION_INVALID',
      message: /expected a buffer that this backend gave$/,
    });
  });

  test('a precision that the device does not have is refused, with those that it has', async () => {
    using cpu = new CpuBackend({ threads: 1 });
    using guarded = new GuardedBackend(cpu);
    const architecture = smallModel(new Random(2), 'dot-lower');
    const refusal = {
      code: 'DEVICE_UNAVAILABLE',
      message: 'cpu multiplies in float32, float8_e4m3, not in bfloat16',
    };
    await assert.rejects(DlrmModel.create(cpu, architecture, { precision: 'bfloat16' }), refusal);
    await assert.rejects(DlrmModel.create(guarded, architecture, { precision: 'bfloat16' }), refusal);
    await assert.rejects(DlrmModel.create(cpu, architecture, { precision: 'double' as never }), {
      code: 'OPTION_INVALID',
    });
    assert.throws(() => cpu.placeLinear(new Float32Array(4), undefined, 2, 2, 'bfloat16'), refusal);
    assert.throws(() => guarded.placeLinear(new Float32Array(4), undefined, 2, 2, 'bfloat16'), {
      code: 'OPTION_INVALID',
      message: /precision is "bfloat16", expected one of float32, float8_e4m3$/,
    });
    const { from } = await placedOn(guarded);
    const dot = { op: 'dotInteraction', input: from, features: 2, dim: 1, order: 'lower' } as const;
    const output = matrix(guarded.allocate(6), 2, 3);
    const operation: Operation = { ...dot, diagonal: true, precision: 'bfloat16', output };
    await assert.rejects(guarded.run([operation]), {
      code: 'OPTION_INVALID',
      message: /precision is "bfloat16"/,
    });
    await guarded.run([{ ...operation, precision: 'float32' }]);
    await using model = await DlrmModel.create(guarded, architecture, { precision: 'float32' });
    assert.equal(model.precision, 'float32');
  });
});
