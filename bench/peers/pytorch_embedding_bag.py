"""PyTorch's embedding_bag as a peer of `hotrow bench`: the same lookups, timed in turns with Hotrow's kernels.

Its commands (pytorch_commands.py has the loop that answers them):

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "threads": 2, "device": "cpu"}}  -> {"threads": 2}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...]}}                    -> {"lookups": n}
  {"run": {"batches": [3, 0]}}    runs these batches over all tables, one call a table
                                  -> {"batches": [{"seconds": 0.0123, "launches": []}, ...]}

On "cuda", seconds are device time between two events around all calls, back to back; launches are the seconds of every
call between events of its own, in another round of the same calls. On "cpu", seconds are wall time.
"""

import time

from pytorch_commands import random_tables, read_batches, serve


class EmbeddingBags:
    def __init__(self, torch, tables, mode, device):
        self.torch, self.mode, self.device, self.batches = torch, mode, device, []
        self.weights = random_tables(torch, tables, device)

    def load(self, batches):
        self.batches = read_batches(self.torch, batches, self.device)
        return {"lookups": sum(len(indices) for indices, _ in self.batches[0])}

    def run(self, batches):
        return {"batches": [self._run(batch) for batch in batches]}

    def _run(self, number):
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
    serve(EmbeddingBags)
