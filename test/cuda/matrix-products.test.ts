/** What matrix products take of cuBLASLt and of the device goes with them, and where they cannot be had. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CudaDevice } from '../../src/cuda/device.ts';
import { MatrixProducts } from '../../src/cuda/matrix-products.ts';
import { CublasLt, type MatmulProblem } from '../../src/ffi/cublaslt.ts';
import { CudaDriver } from '../../src/ffi/cuda-driver.ts';
import { buildFakeCublasLt, buildFakeDriver } from '../fake-driver/fake-driver.ts';

const fake = buildFakeDriver();
const fakeLt = buildFakeCublasLt(fake);
const driver = new CudaDriver({ path: fake.path });
const library = new CublasLt({ path: fakeLt.path });
const PROBLEM: MatmulProblem = {
  ...{
    rows: 4,
    inputs: 8,
    outputs: 16,
    type: 'float32',
    outputType: 'float32',
    compute: 'tf32',
    epilogue: 'none',
  },
  ...{ inputStride: 8, weightStride: 8, outputStride: 16 },
};

test('handle, descriptors and workspace go with the products', () => {
  using device = new CudaDevice(driver);
  const before = [fake.live(), fake.liveBytes(), fakeLt.live()];
  const products = new MatrixProducts(device, library, 1 << 20);
  assert.equal(fake.liveBytes(), (before[1] as number) + (1 << 20));
  const plans = products.plans(PROBLEM, { input: 16, weight: 16, output: 16 }, 2);
  assert.ok(plans.length > 0);
  products.planOf(PROBLEM, (plans[0] as (typeof plans)[number]).algorithm);
  products[Symbol.dispose]();
  products[Symbol.dispose]();
  assert.deepEqual([fake.live(), fake.liveBytes(), fakeLt.live()], before);
});

test('a library that refuses leaves no workspace', () => {
  using device = new CudaDevice(driver);
  const before = [fake.live(), fake.liveBytes(), fakeLt.live()];
  fakeLt.fail('cublasLtCreate', 1, 1);
  assert.throws(() => new MatrixProducts(device, library, 1 << 20), { code: 'DEVICE_UNAVAILABLE' });
  assert.deepEqual([fake.live(), fake.liveBytes(), fakeLt.live()], before);
});
