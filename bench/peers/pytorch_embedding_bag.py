"""PyTorch's embedding_bag as a peer of `hotrow bench`: the same lookups, timed in turns with Hotrow's kernels.

Started by the benchmark as `python3 pytorch_embedding_bag.py`; one JSON command a line on standard input, one JSON
answer a line on standard output:

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "threads": 2, "device": "cpu"}}  -> {"threads": 2}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...]}}                    -> {"lookups": n}
  {"run": [3, 0]}    runs these batches over all tables, one call a table
                     -> {"batches": [{"seconds": 0.0123, "launches": []}, ...]}

Before the first answer it says {"version": "2.11.0", "cuda": true}. On "cuda", seconds are device time between two
events around all calls, back to back; launches are the seconds of every call between events of its own, in another
round of the same calls. On "cpu", seconds are wall time. Indices and offsets are files of little-endian int64; offsets
have a batch's entries, without the last end.
"""

import json
import os
import sys
import time


def main():
    try:
        import torch
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
        return
    print(json.dumps({"version": torch.__version__, "cuda": torch.cuda.is_available()}), flush=True)
    peer = None
    for line in sys.stdin:
        command = json.loads(line)
        with torch.no_grad():
            if "setup" in command:
                peer = Peer(torch, **command["setup"])
                answer = {"threads": torch.get_num_threads()}
            elif "load" in command:
                answer = {"lookups": peer.load(command["load"]["batches"])}
            else:
                answer = {"batches": [peer.run(batch) for batch in command["run"]]}
        print(json.dumps(answer), flush=True)


class Peer:
    def __init__(self, torch, tables, mode, threads, device):
        self.torch, self.mode, self.device, self.batches = torch, mode, device, []
        torch.set_num_threads(threads)
        self.weights = [torch.rand(rows, dim, dtype=torch.float32, device=device).to(getattr(torch, dtype)) for rows, dim, dtype in tables]

    def load(self, batches):
        read = lambda path: self.torch.from_file(path, size=os.path.getsize(path) // 8, dtype=self.torch.int64).clone().to(self.device)
        self.batches = [[(read(indices), read(offsets)) for indices, offsets in batch] for batch in batches]
        return sum(len(indices) for indices, _ in self.batches[0])

    def run(self, number):
        calls = list(zip(self.weights, self.batches[number]))
        return self._run_on_gpu(calls) if self.device == "cuda" else self._run_on_cpu(calls)

    def _call(self, weight, bags):
        indices, offsets = bags
        self.torch.nn.functional.embedding_bag(indices, weight, offsets, mode=self.mode)

    def _run_on_cpu(self, calls):
        began = time.perf_counter()
        for call in calls:
            self._call(*call)
        return {"seconds": time.perf_counter() - began, "launches": []}

    def _run_on_gpu(self, calls):
        event = lambda: self.torch.cuda.Event(enable_timing=True)
        begin, end = event(), event()
        begin.record()
        for call in calls:
            self._call(*call)
        end.record()
        pairs = [(event(), event()) for _ in calls]
        for call, (before, after) in zip(calls, pairs):
            before.record()
            self._call(*call)
            after.record()
        self.torch.cuda.synchronize()
        seconds = lambda a, b: a.elapsed_time(b) / 1e3
        return {"seconds": seconds(begin, end), "launches": [seconds(*pair) for pair in pairs]}


if __name__ == "__main__":
    main()
