"""The CUDA embedding-bag kernels beside PyTorch, straight through the driver: `python3 run.py OUT.json [TRACES]`.

Stands in the folder that emit.ts wrote. TRACES: a folder with med_hot.500K.txt and low_hot.500K.txt, else those two
patterns are left out. Needs PyTorch with CUDA and libnvrtc. Every kernel is checked first: the plain one against
PyTorch, every other against the plain one, bit for bit.

Protocol (the MICRO'24 artifact's): 12 tables × 500,000 rows × 128 float32, batch 2,048, 150 lookups a bag, int64, one
launch a table. `single`: each launch timed by its own pair of events, 3 batches to warm up, 6 timed, median.
`back_to_back`: a batch of 12 launches in one pair of events, best of 5, per table. Microseconds per table.
"""

import ctypes as C
import glob
import json
import os
import sys
import time

import numpy as np
import torch

HERE = os.path.dirname(os.path.abspath(__file__))
TABLES, ROWS, DIM, BATCH, POOLING = 12, 500_000, 128, 2048, 150
LOOKUPS = BATCH * POOLING
PINNED_ROWS = 60_000
PINNED_VARIANTS = ["sum", "sum.rpf4", "sum.rpf8", "sum.pipe4"]
REGISTERS, LOCAL_BYTES = 4, 3  # CU_FUNC_ATTRIBUTE_NUM_REGS, _LOCAL_SIZE_BYTES
PERSISTING_L2 = 6  # CU_LIMIT_PERSISTING_L2_CACHE_SIZE

cuda = C.CDLL("libcuda.so.1")
LIBRARIES = [
    path
    for pattern in ("/usr/local/cuda*/lib64", "/usr/local/cuda*/targets/*/lib", sys.prefix + "/lib/python3*/site-packages/nvidia/*/lib")
    for path in sorted(glob.glob(pattern + "/libnvrtc.so.1[23]"))
]
nvrtc = C.CDLL(LIBRARIES[0])


def check(status, call):
    if status != 0:
        raise RuntimeError(f"{call}: status {status}")


def compile_kernel(source, options):
    """A cubin for this GPU, and the seconds that took."""
    program, size = C.c_void_p(), C.c_size_t()
    check(nvrtc.nvrtcCreateProgram(C.byref(program), source.encode(), b"kernel.cu", 0, None, None), "nvrtcCreateProgram")
    major, minor = torch.cuda.get_device_capability()
    flags = [f"--gpu-architecture=sm_{major}{minor}", "--std=c++17", f"-I{HERE}/cuda", *options]
    began = time.perf_counter()
    status = nvrtc.nvrtcCompileProgram(program, len(flags), (C.c_char_p * len(flags))(*[flag.encode() for flag in flags]))
    seconds = time.perf_counter() - began
    nvrtc.nvrtcGetProgramLogSize(program, C.byref(size))
    log = C.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if status != 0:
        raise RuntimeError(log.value.decode())
    nvrtc.nvrtcGetCUBINSize(program, C.byref(size))
    cubin = C.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    return cubin, seconds


class Kernel:
    def __init__(self, description):
        self.id = description["id"]
        cubin, self.compile_seconds = compile_kernel(description["source"], description["options"])
        module, self.function = C.c_void_p(), C.c_void_p()
        check(cuda.cuModuleLoadData(C.byref(module), cubin), "cuModuleLoadData")
        check(cuda.cuModuleGetFunction(C.byref(self.function), module, description["kernel"].encode()), "cuModuleGetFunction")
        self.registers, self.local_bytes = self._attribute(REGISTERS), self._attribute(LOCAL_BYTES)

    def _attribute(self, which):
        value = C.c_int()
        check(cuda.cuFuncGetAttribute(C.byref(value), which, self.function), "cuFuncGetAttribute")
        return value.value

    def launch(self, grid, block, words):
        block_of_words = (C.c_int64 * len(words))(*words)
        parameters = (C.c_void_p * 1)(C.cast(block_of_words, C.c_void_p))
        stream = C.c_void_p(torch.cuda.current_stream().cuda_stream)
        check(cuda.cuLaunchKernel(self.function, grid, 1, 1, *block, 1, 0, stream, parameters, None), "cuLaunchKernel")


def patterns(traces):
    """Row indices per table, by pattern. Hot rows are scattered by a step coprime to the rows."""
    rng = np.random.default_rng(0)
    yield "one_item", [np.full(LOOKUPS, 7, np.int64)] * TABLES
    zipf = lambda: np.minimum(20_000, np.floor(20_001 ** rng.random(LOOKUPS))).astype(np.int64) - 1
    yield "high_hot", [(zipf() * 309_017 + 12_345) % ROWS for _ in range(TABLES)]
    for name in ("med_hot", "low_hot"):
        file = os.path.join(traces or "", name + ".500K.txt")
        if os.path.exists(file):
            stream = np.resize(np.loadtxt(file, dtype=np.int64), TABLES * LOOKUPS)
            yield name, list(stream.reshape(TABLES, LOOKUPS))
    yield "random", [rng.integers(0, ROWS, LOOKUPS) for _ in range(TABLES)]


def event():
    return torch.cuda.Event(enable_timing=True)


def measure(run):
    pairs = []
    for batch in range(9):
        for table in range(TABLES):
            begin, end = event(), event()
            begin.record()
            run(table)
            end.record()
            if batch >= 3:
                pairs.append((begin, end))
    torch.cuda.synchronize()
    single = [1e3 * begin.elapsed_time(end) for begin, end in pairs]
    batches = []
    for _ in range(5):
        begin, end = event(), event()
        begin.record()
        for table in range(TABLES):
            run(table)
        end.record()
        torch.cuda.synchronize()
        batches.append(1e3 * begin.elapsed_time(end) / TABLES)
    low, middle, high = np.quantile(single, [0.1, 0.5, 0.9])
    return {"single": {"median": middle, "p10": low, "p90": high}, "back_to_back": min(batches)}


def main(out, traces=None):
    torch.zeros(1, device="cuda")
    sources = json.load(open(HERE + "/sources.json"))
    kernels = [Kernel(description) for description in sources["variants"]]
    pin = Kernel(sources["pin"])
    check(cuda.cuCtxSetLimit(PERSISTING_L2, C.c_size_t(37 << 20)), "cuCtxSetLimit")
    tables = [torch.rand(ROWS, DIM, device="cuda") - 0.5 for _ in range(TABLES)]
    offsets = torch.arange(0, LOOKUPS, POOLING, device="cuda")
    output = torch.empty(BATCH, TABLES * DIM, device="cuda")
    block, grid = (32, 8), (BATCH * DIM // 32 + 7) // 8
    driver = C.c_int()
    cuda.cuDriverGetVersion(C.byref(driver))
    results = {
        "device": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "driverCuda": driver.value,
        "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernels": {k.id: {"registers": k.registers, "localBytes": k.local_bytes, "compileSeconds": k.compile_seconds} for k in kernels},
        "microsecondsPerTable": {},
        "pinned": {},
    }
    for pattern, lookups in patterns(traces):
        indices = [torch.from_numpy(np.ascontiguousarray(table)).cuda() for table in lookups]

        def peer(table):
            return torch.nn.functional.embedding_bag(indices[table], tables[table], offsets, mode="sum")

        def bag(kernel):
            def run(table):
                words = [tables[table].data_ptr(), DIM * 4, ROWS, DIM, indices[table].data_ptr(), offsets.data_ptr(), LOOKUPS, BATCH]
                kernel.launch(grid, block, words + [0, 0, -1, output.data_ptr() + table * DIM * 4, TABLES * DIM, BATCH, 0])

            return run

        expected = torch.cat([peer(table) for table in range(TABLES)], 1)
        times = {"PyTorch": measure(peer)}
        plain = None
        for kernel in kernels:
            output.fill_(float("nan"))
            for table in range(TABLES):
                bag(kernel)(table)
            torch.cuda.synchronize()
            if plain is None:
                plain = output.clone()
                error = ((plain - expected).norm() / expected.norm()).item()
                assert error < 1e-6, f"{kernel.id}: {error}"
            assert torch.equal(output, plain), f"{kernel.id}: other bits than the plain kernel"
            times[kernel.id] = measure(bag(kernel))
        results["microsecondsPerTable"][pattern] = times

        hottest = [torch.from_numpy(np.argsort(-np.bincount(table, minlength=ROWS), kind="stable")[:PINNED_ROWS].copy()).cuda() for table in lookups]
        pinned = {}
        for kernel in kernels:
            if kernel.id.removeprefix("standard_bag.f32.i64.o64.") not in PINNED_VARIANTS:
                continue
            triples = []
            for batch in range(6):
                for table in range(TABLES):
                    events = [event() for _ in range(3)]
                    events[0].record()
                    words = [tables[table].data_ptr(), DIM * 4, DIM * 4, ROWS, hottest[table].data_ptr(), PINNED_ROWS, 128]
                    pin.launch(2048, (4, 64), words)
                    events[1].record()
                    bag(kernel)(table)
                    events[2].record()
                    if batch >= 2:
                        triples.append(events)
            torch.cuda.synchronize()
            spans = np.array([[a.elapsed_time(b), b.elapsed_time(c), a.elapsed_time(c)] for a, b, c in triples]) * 1e3
            pinned[kernel.id] = dict(zip(["pin", "kernel", "both"], np.median(spans, 0).tolist()))
        results["pinned"][pattern] = pinned
        check(cuda.cuCtxResetPersistingL2Cache(), "cuCtxResetPersistingL2Cache")
    json.dump(results, open(out, "w"), indent=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
