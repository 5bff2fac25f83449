"""A whole DLRM in PyTorch as a peer of `hotrow bench`: the same shapes and lookups, random weights, no gradients.

Its commands (pytorch_commands.py has the loop that answers them):

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "bottom": [[outputs, inputs], ...],
             "top": [[outputs, inputs], ...], "threads": 2, "device": "cuda"}}               -> {"threads": 2}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...], "batchSize": 2048}}  -> {"batches": 2}
  {"run": {"variant": "eager" | "graph", "tf32": false, "rounds": 100}}
      -> {"latencies": [0.012, ...], "batchSeconds": 0.011}

Inputs are on the device. The interaction is facebookresearch/dlrm's `dot`: bottom beside the strict lower triangle of
Z Z^T. Latencies are wall times of one batch after the other, each waited for; batchSeconds is the time of a batch when
none is waited for. "graph" replays a CUDA graph a batch.
"""

import time

from pytorch_commands import random_tables, read_batches, serve


class Dlrm:
    def __init__(self, torch, tables, mode, bottom, top, device):
        self.torch, self.mode, self.device = torch, mode, device
        self.weights = random_tables(torch, tables, device)
        layer = lambda outputs, inputs: (torch.randn(outputs, inputs, device=device) * (2 / inputs) ** 0.5, torch.zeros(outputs, device=device))
        self.bottom = [layer(*shape) for shape in bottom]
        self.top = [layer(*shape) for shape in top]
        features = len(tables) + 1
        self.pairs = torch.tril_indices(features, features, offset=-1, device=device)

    def load(self, batches, batchSize):
        self.batches = None
        self.batches = read_batches(self.torch, batches, self.device)
        features = self.bottom[0][0].shape[1] if self.bottom else 0
        self.dense = self.torch.rand(batchSize, features, device=self.device)
        return {"batches": len(batches)}

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
    serve(Dlrm)
