// Every skip of a test that is no failure. Whatever else does not run fails `npm test` (scripts/skips.mjs); `todo` always does.
// Golden files that are committed (test/fixtures/golden) are on every machine: tests that miss one are not listed.

/** How the suite of every backend is run; what it skips, any of them may. */
const CONFORMANCE = [
  'test/conformance/cpu.test.ts',
  'test/conformance/cpu.rest.test.ts',
  'test/conformance/cpu-clang.rest.test.ts',
];
const CONFORMANCE_CUDA = [
  'test/conformance/cuda.test.ts',
  'test/conformance/cuda-precisions.rest.test.ts',
  'test/conformance/cuda.rest.test.ts',
  'test/gpu/conformance.test.ts',
  'test/backend/cuda/dense/scaled-layers.rest.test.ts',
  'test/backend/cuda/dense/scaled-layers.test.ts',
];
const CONFORMANCE_REFERENCE = ['test/conformance/reference.rest.test.ts'];

/**
 * `reason`: what the test says; `files`: the test files in which it may; `lacks`: what the machine lacks, for whoever reads the
 * summary.
 */
export const KNOWN_SKIPS = [
  {
    reason: /^no C\+\+ compiler \(tried \$CXX, g\+\+\)$|^the emulator needs Linux \(ucontext\)$/,
    lacks: 'g++ on Linux, for kernels compiled for the host',
    files: [
      'test/backend/cuda/dense/dense-kernels.rest.test.ts',
      'test/backend/cuda/dense/kept-choices.test.ts',
      'test/backend/cuda/dense/precisions.rest.test.ts',
      'test/backend/cuda/dense/precisions.test.ts',
      'test/backend/cuda/dense/cross-eight-bits.test.ts',
      'test/backend/cuda/dense/eight-bit-outputs.test.ts',
      'test/backend/cuda/dense/rounded-copies.test.ts',
      'test/backend/cuda/dense/scaled-layers.rest.test.ts',
      'test/backend/cuda/dense/scaled-layers.test.ts',
      'test/backend/cuda/embedding/artifact-plan.test.ts',
      'test/backend/cuda/given-back.test.ts',
      'test/backend/cuda/lifetime.test.ts',
      'test/backend/cuda/memory/host-memory.test.ts',
      'test/backend/cuda/model-memory.rest.test.ts',
      'test/backend/cuda/program/pooled-copies.test.ts',
      'test/backend/cuda/program/program.test.ts',
      'test/backend/cuda/program/stream-sets.test.ts',
      'test/model/batch-parts.test.ts',
      'test/backend/cuda/rows/given-back.test.ts',
      'test/backend/cuda/rows/tables.test.ts',
      'test/backend/cuda/worker-exit.rest.test.ts',
      'test/backend/transfers.test.ts',
      'test/bench/measure-model.test.ts',
      'test/characterize/characterize.rest.test.ts',
      'test/conformance/cuda-precisions.rest.test.ts',
      'test/conformance/cuda.rest.test.ts',
      'test/conformance/cuda.test.ts',
      'test/emulation/artifact-bag.rest.test.ts',
      'test/emulation/artifact-bag.test.ts',
      'test/emulation/cross-product.test.ts',
      'test/emulation/dot-interaction.rest.test.ts',
      'test/emulation/fused-bags.rest.test.ts',
      'test/emulation/fused-rounds.rest.test.ts',
      'test/emulation/fused-users.rest.test.ts',
      'test/emulation/linear.rest.test.ts',
      'test/emulation/move-rows.test.ts',
      'test/emulation/row-function.test.ts',
      'test/emulation/simt.test.ts',
      'test/emulation/spread-rows.test.ts',
      'test/emulation/standard-bag.rest.test.ts',
      'test/emulation/utilities.test.ts',
      'test/kernels/structs.test.ts',
      'test/model/abort.test.ts',
      'test/model/collection.test.ts',
      'test/model/many-at-once.test.ts',
      'test/random-calls/random-calls.rest.test.ts',
    ],
  },
  {
    reason:
      /^(no GPU: )?(the NVIDIA driver (was not found; tried:|sees no GPU$)|cuInit failed: CUDA_ERROR_NO_DEVICE|(NVRTC|cuBLASLt), .* was not found; tried:)/,
    lacks: "a GPU with its driver and CUDA's libraries",
    files: [
      'test/gpu/conformance.test.ts',
      'test/gpu/dense.test.ts',
      'test/gpu/eight-bit-outputs.test.ts',
      'test/gpu/fault.test.ts',
      'test/gpu/model.test.ts',
      'test/gpu/occupancy.test.ts',
      'test/gpu/plumbing.test.ts',
      'test/gpu/pooled-copies.test.ts',
      'test/gpu/random-bags.test.ts',
      'test/gpu/standard-bag.test.ts',
      'test/gpu/transfers.test.ts',
      'test/gpu/two-workers.test.ts',
    ],
  },
  {
    reason: /^no clang on the PATH$/,
    lacks: 'clang',
    files: ['test/conformance/cpu-clang.rest.test.ts'],
  },
  {
    reason: /^the package is made on Linux, x64$/,
    lacks: 'Linux on x64',
    files: ['test/package/package.rest.test.ts'],
  },
  { reason: /^there is one GPU$/, lacks: 'a second GPU', files: ['test/gpu/transfers.test.ts'] },
  {
    reason: /^this GPU has no persisting L2$/,
    lacks: 'a GPU whose L2 can be set aside',
    files: ['test/gpu/plumbing.test.ts'],
  },
  {
    reason: /^there is a GPU$/,
    lacks: 'nothing: it tests what is said without a GPU',
    files: ['test/cli/commands/quantize.rest.test.ts'],
  },
  {
    reason: /^NVRTC, .* was not found; tried:/,
    lacks: 'NVRTC',
    files: ['test/jit/nvrtc.test.ts'],
  },
  {
    reason: /^cuBLASLt, .* was not found; tried:/,
    lacks: 'cuBLASLt',
    files: ['test/ffi/cublaslt.test.ts'],
  },
  {
    reason: /^no (cublasLt|cuda_runtime_api)\.h/,
    lacks: "cuBLASLt's headers",
    files: ['test/ffi/cublaslt.test.ts'],
  },
  {
    reason: /^no nvcc( on the PATH)?$/,
    lacks: 'nvcc',
    files: [
      'test/characterize/static-report.rest.test.ts',
      'test/cli/commands/quantize.rest.test.ts',
      'test/kernels/cuda-compile.rest.test.ts',
    ],
  },
  {
    reason: /^no Chromium: set CHROMIUM, or install the package chromium$/,
    lacks: 'Chromium',
    files: [
      'test/client/browser.rest.test.ts',
      'test/report/browser.rest.test.ts',
      'test/serve/page/browser.rest.test.ts',
    ],
  },
  {
    reason: /^there is no promtool: install the package prometheus$/,
    lacks: 'promtool',
    files: [
      'test/serve/figures.test.ts',
      'test/serve/metrics/prometheus-text.test.ts',
      'test/serve/metrics/triton-text.test.ts',
    ],
  },
  {
    reason: /^there is no python3$/,
    lacks: 'Python',
    files: [
      'test/bench/abort.rest.test.ts',
      'test/bench/bench-with-peers.rest.test.ts',
      'test/bench/peers.rest.test.ts',
      'test/bench/pytorch-peers.test.ts',
      'test/model/description/description-snippet.test.ts',
    ],
  },
  {
    reason: /^PyTorch was not measured: /,
    lacks: 'PyTorch',
    files: ['test/bench/pytorch-peers.test.ts'],
  },
  {
    reason: /^no Python here has PyTorch$/,
    lacks: 'PyTorch',
    files: ['test/evaluate/trained-model.rest.test.ts'],
  },
  {
    reason:
      /^no golden files dlrm_multihot\.\*$|^the ([Cc]riteo|golden) (golden )?files are not (here|on this machine)$|^(criteo|dlrm_multihot)\.request\.safetensors is not on this machine$/,
    lacks: 'the golden files that are not committed',
    files: [
      ...CONFORMANCE,
      ...CONFORMANCE_CUDA,
      ...CONFORMANCE_REFERENCE,
      'test/cli/commands.rest.test.ts',
      'test/formats/torch/torch-file.test.ts',
      'test/model/checkpoint/checkpoint.test.ts',
      'test/model/checkpoint/quantize-checkpoint.test.ts',
      'test/model/request/request.test.ts',
      'test/workload/criteo.test.ts',
    ],
  },
  {
    reason: /^the recorded traces are not here$|^(med|low)_hot\.500K\.txt is not on this machine$/,
    lacks: 'the recorded traces, which are not committed',
    files: ['test/workload/hotness.test.ts', 'test/workload/trace.test.ts'],
  },
  {
    reason: /^this processor lacks /,
    lacks: 'an instruction set',
    files: ['test/conformance/cpu.rest.test.ts'],
  },
  {
    reason: /^root may write anywhere$|^run by root$/,
    lacks: 'a user who is not root',
    files: ['test/jit/compile-kernel.test.ts', 'test/output-file/output-file.test.ts'],
  },
  {
    reason: /^nothing can be mounted here$/,
    lacks: 'the right to mount',
    files: ['test/output-file/output-file.test.ts'],
  },
  {
    reason: /^no \/dev\/full$/,
    lacks: '/dev/full, which Linux has',
    files: ['test/cli/check-outputs.rest.test.ts'],
  },
  {
    reason: /^needs the command as it is built$/,
    lacks: 'nothing: whole tiers have the command as it is built',
    files: ['test/input-file.rest.test.ts'],
  },
  {
    reason: /^\S+ does not reach the memory of another device$/,
    lacks: 'nothing: a CPU is no device with memory of its own',
    files: [...CONFORMANCE, ...CONFORMANCE_REFERENCE],
  },
  {
    reason: /^this backend adds in an order that depends on the batch$/,
    lacks: "nothing: a GPU's matrix products may",
    files: CONFORMANCE_CUDA,
  },
  {
    reason: /^all plans place tables alike$/,
    lacks: 'nothing: the backend has one placement',
    files: [...CONFORMANCE_CUDA, ...CONFORMANCE_REFERENCE],
  },
  {
    reason: /^the device has no 8-bit products$/,
    lacks: 'a device with float8_e4m3: GPUs from sm_89 on',
    files: ['test/gpu/conformance.test.ts', ...CONFORMANCE_REFERENCE],
  },
];
