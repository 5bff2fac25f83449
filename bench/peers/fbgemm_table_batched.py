"""FBGEMM's table-batched inference kernel as a peer of `hotrow bench`: the same lookups, timed in turns with Hotrow's.

Started by the benchmark as `python3 fbgemm_table_batched.py`; one JSON command a line on standard input, one JSON
answer a line on standard output:

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "threads": 1, "device": "cuda",
             "indexType": "int64"}}                                   -> {"indexType": "int64"}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...]}}
      -> {"lookups": n, "samples": [{"table": 0, "bag": 2047, "indices": [...], "rows": "base64", "pooled": [...]}, ...]}
  {"run": {"batches": [3, 0]}}    runs these batches, one call for all tables
                     -> {"batches": [{"seconds": 0.0004, "launches": [0.0004]}, ...]}

Before the first answer it says {"version": "1.4.0", "cuda": true}, or {"unavailable": "why"}. A command that fails
answers {"failed": "why"}.

Rows are random, in FBGEMM's own layout; pooled rows are float32, as Hotrow's are; indices are not checked. The index
type is the one asked for, or the one that this version takes. samples are bags of the first batch with the bytes of
their rows, for the benchmark to add up. seconds are device time from one batch's end to the next's, calls queued back
to back; launches are the seconds of the call between events of its own, in another round. Indices and offsets are
files of little-endian int64; offsets have a batch's entries, without the last end.
"""

import base64
import importlib
import json
import os
import sys

ROW_FORMATS = {"float32": "FP32", "float16": "FP16", "int8": "INT8", "int4": "INT4", "float8_e4m3": "FP8"}
POOLING = {"sum": "SUM", "mean": "MEAN"}
# FBGEMM's FP8 has exponents of any width: these are those of e4m3.
E4M3 = {"fp8_exponent_bits": 4, "fp8_exponent_bias": 7}


def main():
    # fbgemm_gpu prints what it fails to load on standard output, where only answers belong.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    say = lambda answer: print(json.dumps(answer), file=answers, flush=True)
    try:
        library = Library()
    except Exception as error:
        say({"unavailable": reason(error)})
        return
    say({"version": library.version, "cuda": True})
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            with library.torch.no_grad():
                if "setup" in command:
                    peer = Peer(library, **command["setup"])
                    answer = {"indexType": peer.index_type}
                elif "load" in command:
                    answer = peer.load(command["load"]["batches"])
                else:
                    answer = {"batches": peer.run(command["run"]["batches"])}
        except Exception as error:
            answer = {"failed": reason(error)}
        say(answer)


def reason(error):
    lines = str(error).strip().splitlines()
    if isinstance(error, ModuleNotFoundError):
        return f"no module {error.name}"
    return lines[0] if lines else type(error).__name__


class Library:
    """What is imported. Raises what keeps it from running on a GPU."""

    def __init__(self):
        import torch

        fbgemm = importlib.import_module("fbgemm_gpu")
        if not torch.cuda.is_available():
            raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
        common = importlib.import_module("fbgemm_gpu.split_table_batched_embeddings_ops_common")
        inference = importlib.import_module("fbgemm_gpu.split_table_batched_embeddings_ops_inference")
        self.torch = torch
        self.version = getattr(fbgemm, "__version__", "of unknown version")
        self.SparseType = importlib.import_module("fbgemm_gpu.split_embedding_configs").SparseType
        self.EmbeddingLocation = common.EmbeddingLocation
        self.PoolingMode = common.PoolingMode
        self.BoundsCheckMode = common.BoundsCheckMode
        self.TableBatchedBags = inference.IntNBitTableBatchedEmbeddingBagsCodegen


class Peer:
    def __init__(self, library, tables, mode, threads, device, indexType):
        self.torch, self.device, self.tables, self.batches = library.torch, device, tables, []
        self.torch.set_num_threads(threads)
        sparse_type = lambda row_format: getattr(library.SparseType, ROW_FORMATS[row_format])
        self.module = library.TableBatchedBags(
            embedding_specs=[(f"table_{t}", rows, dim, sparse_type(row_format), library.EmbeddingLocation.DEVICE) for t, (rows, dim, row_format) in enumerate(tables)],
            pooling_mode=getattr(library.PoolingMode, POOLING[mode]),
            device=self.torch.device(device),
            bounds_check_mode=library.BoundsCheckMode.NONE,
            output_dtype=library.SparseType.FP32,
            **(E4M3 if any(row_format == "float8_e4m3" for _, _, row_format in tables) else {}),
        )
        self.module.fill_random_weights()
        for rows, (_, _, row_format) in zip(self._rows(), tables):
            self._fill(rows, row_format)
        self.index_type = self._accepted(indexType)

    def _rows(self):
        """The bytes of every table's rows [rows, bytes of a row], header and padding included; not a copy."""
        return [rows for rows, _ in self.module.split_embedding_weights(False)]

    def _fill(self, rows, row_format):
        """Numbers that add up to numbers: what the library fills rows with may be none, or scaled by 0."""
        if row_format in ("float32", "float16"):
            rows.view(getattr(self.torch, row_format)).uniform_()
        elif row_format == "float8_e4m3":
            rows.random_(0, 120)
        else:
            rows.random_(0, 256)
            header = rows.view(self.torch.float16)
            header[:, 0] = 1 / 256 if row_format == "int8" else 1 / 16
            header[:, 1] = -0.5

    def _accepted(self, wanted):
        """The first index type that a call takes: older versions know int32 only."""
        refused = None
        for index_type in dict.fromkeys([wanted, "int32", "int64"]):
            dtype = getattr(self.torch, index_type)
            count = len(self.tables)
            try:
                self.module(
                    self.torch.zeros(count, dtype=dtype, device=self.device),
                    self.torch.arange(count + 1, dtype=dtype, device=self.device),
                )
                self.torch.cuda.synchronize()
                return index_type
            except Exception as error:
                refused = refused or error
        raise refused

    def load(self, batches):
        self.batches = []
        self.batches = [self._joined(batch) for batch in batches]
        indices, offsets = self.batches[0]
        return {"lookups": len(indices), "samples": list(self._samples(indices, offsets))}

    def _joined(self, bags):
        """Indices of all tables, and where every bag of every table begins in them [T * B + 1], table by table."""
        torch = self.torch
        read = lambda path: torch.from_file(path, size=os.path.getsize(path) // 8, dtype=torch.int64)
        indices, offsets, lookups = [], [], 0
        for indices_path, offsets_path in bags:
            indices.append(read(indices_path))
            offsets.append(read(offsets_path) + lookups)
            lookups += len(indices[-1])
        offsets.append(torch.tensor([lookups], dtype=torch.int64))
        placed = lambda parts: torch.cat(parts).to(getattr(torch, self.index_type)).to(self.device)
        return placed(indices), placed(offsets)

    def _samples(self, indices, offsets):
        pooled = self.module(indices, offsets)
        tables = self._rows()
        bags = (len(offsets) - 1) // len(tables)
        for table in sorted({0, len(tables) - 1}):
            column = sum(dim for _, dim, _ in self.tables[:table])
            for bag in sorted({0, bags // 2, bags - 1}):
                begin, end = offsets[table * bags + bag : table * bags + bag + 2].tolist()
                own = indices[begin:end].to(self.torch.int64)
                yield {
                    "table": table,
                    "bag": bag,
                    "indices": own.tolist(),
                    "rows": base64.b64encode(bytes(tables[table][own].flatten().tolist())).decode(),
                    "pooled": pooled[bag, column : column + self.tables[table][1]].tolist(),
                }

    def run(self, numbers):
        calls = [self.batches[number] for number in numbers]
        event = lambda: self.torch.cuda.Event(enable_timing=True)
        ends = [event() for _ in range(len(calls) + 1)]
        ends[0].record()
        for call, end in zip(calls, ends[1:]):
            self.module(*call)
            end.record()
        pairs = [(event(), event()) for _ in calls]
        for call, (before, after) in zip(calls, pairs):
            before.record()
            self.module(*call)
            after.record()
        self.torch.cuda.synchronize()
        seconds = lambda a, b: a.elapsed_time(b) / 1e3
        return [{"seconds": seconds(*between), "launches": [seconds(*pair)]} for between, pair in zip(zip(ends, ends[1:]), pairs)]


if __name__ == "__main__":
    main()
