"""PyTorch's embedding_bag as a peer of `hotrow bench`: the same lookups, timed in turns with Hotrow's kernels.

Started by the benchmark as `python3 pytorch_embedding_bag.py`; one JSON command a line on standard input, one JSON
answer a line on standard output:

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "threads": 2}}       -> {"version": "1.13.1"}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...]}}        -> {"lookups": n}
  {"run": 3}    runs batch 3 over all tables, one call a table                            -> {"seconds": 0.0123}

Indices and offsets are files of little-endian int64; offsets have a batch's entries, without the last end.
"""

import json
import sys
import time


def main():
    try:
        import torch
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
        return
    print(json.dumps({"version": torch.__version__}), flush=True)
    weights, batches, mode = [], [], "sum"
    for line in sys.stdin:
        command = json.loads(line)
        if "setup" in command:
            setup = command["setup"]
            mode = setup["mode"]
            torch.set_num_threads(setup["threads"])
            weights = [torch.rand(rows, dim, dtype=torch.float32).to(getattr(torch, dtype)) for rows, dim, dtype in setup["tables"]]
            answer = {"threads": torch.get_num_threads()}
        elif "load" in command:
            read = lambda path: torch.from_file(path, size=_int64s(path), dtype=torch.int64).clone()
            batches = [[(read(i), read(o)) for i, o in batch] for batch in command["load"]["batches"]]
            answer = {"lookups": sum(len(i) for i, _ in batches[0])}
        else:
            batch = batches[command["run"]]
            with torch.no_grad():
                began = time.perf_counter()
                for weight, (indices, offsets) in zip(weights, batch):
                    torch.nn.functional.embedding_bag(indices, weight, offsets, mode=mode)
                answer = {"seconds": time.perf_counter() - began}
        print(json.dumps(answer), flush=True)


def _int64s(path):
    import os

    return os.path.getsize(path) // 8


if __name__ == "__main__":
    main()
