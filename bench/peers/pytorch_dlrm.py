"""A whole DLRM in PyTorch as a peer of `hotrow bench`: the same shapes and lookups, random weights, no gradients.

Started by the benchmark as `python3 pytorch_dlrm.py`; one JSON command a line on standard input, one JSON answer a line
on standard output:

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "bottom": [[outputs, inputs], ...],
             "top": [[outputs, inputs], ...], "threads": 2, "device": "cuda"}}               -> {"threads": 2}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...], "batchSize": 2048}}  -> {"batches": 2}
  {"run": {"variant": "eager" | "graph", "tf32": false, "rounds": 100}}
      -> {"latencies": [0.012, ...], "batchSeconds": 0.011}

Before the first answer it says {"version": "2.11.0", "cuda": true}. Inputs are on the device. The interaction is
facebookresearch/dlrm's `dot`: bottom beside the strict lower triangle of Z Z^T. Latencies are wall times of one batch
after the other, each waited for; batchSeconds is the time of a batch when none is waited for. "graph" replays a CUDA
graph a batch. A command that fails answers {"failed": "why"}.
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
    model = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            with torch.no_grad():
                if "setup" in command:
                    model = Dlrm(torch, **command["setup"])
                    answer = {"threads": torch.get_num_threads()}
                elif "load" in command:
                    answer = {"batches": model.load(**command["load"])}
                else:
                    answer = model.run(**command["run"])
        except RuntimeError as error:
            answer = {"failed": str(error).splitlines()[0]}
        print(json.dumps(answer), flush=True)


class Dlrm:
    def __init__(self, torch, tables, mode, bottom, top, threads, device):
        self.torch, self.mode, self.device = torch, mode, device
        torch.set_num_threads(threads)
        self.weights = [torch.rand(rows, dim, dtype=torch.float32, device=device).to(getattr(torch, dtype)) for rows, dim, dtype in tables]
        layer = lambda outputs, inputs: (torch.randn(outputs, inputs, device=device) * (2 / inputs) ** 0.5, torch.zeros(outputs, device=device))
        self.bottom = [layer(*shape) for shape in bottom]
        self.top = [layer(*shape) for shape in top]
        features = len(tables) + 1
        self.pairs = torch.tril_indices(features, features, offset=-1, device=device)

    def load(self, batches, batchSize):
        read = lambda path: self.torch.from_file(path, size=os.path.getsize(path) // 8, dtype=self.torch.int64).clone().to(self.device)
        self.batches = None
        self.batches = [[(read(indices), read(offsets)) for indices, offsets in batch] for batch in batches]
        features = self.bottom[0][0].shape[1] if self.bottom else 0
        self.dense = self.torch.rand(batchSize, features, device=self.device)
        return len(batches)

    def forward(self, batch):
        torch = self.torch
        functional = torch.nn.functional
        x = self.dense
        for weight, bias in self.bottom:
            x = torch.relu(functional.linear(x, weight, bias))
        pooled = [functional.embedding_bag(indices, weight, offsets, mode=self.mode).to(torch.float32) for weight, (indices, offsets) in zip(self.weights, batch)]
        z = torch.cat([x] + pooled, dim=1).view(x.shape[0], -1, x.shape[1])
        products = torch.bmm(z, z.transpose(1, 2))
        y = torch.cat([x, products[:, self.pairs[0], self.pairs[1]]], dim=1)
        for weight, bias in self.top[:-1]:
            y = torch.relu(functional.linear(y, weight, bias))
        weight, bias = self.top[-1]
        return torch.sigmoid(functional.linear(y, weight, bias))

    def run(self, variant, tf32, rounds):
        torch = self.torch
        if self.device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = tf32
        calls = [self._captured(batch) if variant == "graph" else lambda batch=batch: self.forward(batch) for batch in self.batches]
        wait = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        for call in calls * 2:
            call()
        wait()
        latencies = []
        for number in range(rounds):
            began = time.perf_counter()
            calls[number % len(calls)]()
            wait()
            latencies.append(time.perf_counter() - began)
        began = time.perf_counter()
        for number in range(rounds):
            calls[number % len(calls)]()
        wait()
        return {"latencies": latencies, "batchSeconds": (time.perf_counter() - began) / rounds}

    def _captured(self, batch):
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.forward(batch)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.forward(batch)
        return graph.replay


if __name__ == "__main__":
    main()
