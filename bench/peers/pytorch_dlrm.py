"""A whole DLRM in PyTorch as a peer of `hotrow bench`: the same shapes and lookups, random weights, no gradients.

Its commands (pytorch_commands.py has the loop that answers them):

  {"setup": {"tables": [[rows, dim, "float32"], ...], "mode": "sum", "bottom": [[outputs, inputs], ...],
             "cross": [[width, rank], ...], "top": [[outputs, inputs], ...], "threads": 2, "device": "cuda"}}
      -> {"threads": 2}
  {"load": {"batches": [[["indices.bin", "offsets.bin"], ... a table each], ...], "batchSize": 2048}}  -> {"batches": 2}
  {"run": {"variant": "eager" | "graph" | "compile", "precision": "float32" | "tf32" | "float16" | "bfloat16",
           "oneTable": false, "rounds": 100}}
      -> {"latencies": [0.012, ...], "batchSeconds": 0.011}

Inputs are on the device. The interaction is DCNv2's cross layers, x <- x0 * (W V x + b) + x; without any it is
facebookresearch/dlrm's `dot`: bottom beside the strict lower triangle of Z Z^T. Latencies are wall times of one batch
after the other, each waited for; batchSeconds is the time of a batch when none is waited for.

"graph" replays a CUDA graph a batch, "compile" one of what torch.compile made. "oneTable" looks all tables up in one
call: tables of one dim and dtype are the rows of one matrix, and a sample's bags stand side by side, by int32. Linear layers and
what goes between them are of the precision ("tf32": float32, multiplied on tensor cores); rows are of the tables' own.
"""

import time

from pytorch_commands import read_batches, serve


class Dlrm:
    def __init__(self, torch, tables, mode, bottom, top, device, cross=()):
        self.torch, self.mode, self.device = torch, mode, device
        self.tables = tables
        self.weights, self.whole = self._tables()
        layer = lambda outputs, inputs: (torch.randn(outputs, inputs, device=device) * (2 / inputs) ** 0.5, torch.zeros(outputs, device=device))
        self.bottom = [layer(*shape) for shape in bottom]
        self.top = [layer(*shape) for shape in top]
        # A cross layer is V without a bias, then W with its own.
        self.cross = [(layer(rank, width)[0], *layer(width, rank)) for width, rank in cross]
        features = len(tables) + 1
        self.pairs = torch.tril_indices(features, features, offset=-1, device=device)

    def _tables(self):
        """Uniform rows in [0, 1), and the one matrix that they are parts of, where all have one dim and dtype."""
        torch = self.torch
        random = lambda rows, dim, dtype: torch.rand(rows, dim, dtype=getattr(torch, dtype), device=self.device)
        if len({(dim, dtype) for _, dim, dtype in self.tables}) > 1:
            return [random(*shape) for shape in self.tables], None
        rows = [rows for rows, _, _ in self.tables]
        whole = random(sum(rows), *self.tables[0][1:])
        return list(whole.split(rows)), whole

    def load(self, batches, batchSize):
        self.batches = None
        self.batches = read_batches(self.torch, batches, self.device)
        features = self.bottom[0][0].shape[1] if self.bottom else 0
        self.dense = self.torch.rand(batchSize, features, device=self.device)
        return {"batches": len(batches)}

    def _joined(self, batch):
        """(indices, offsets), int32, of one call for all tables: bag b * T + t is sample b's of table t."""
        torch = self.torch
        lengths = torch.stack([torch.diff(torch.cat([offsets, offsets.new_tensor([len(indices)])])) for indices, offsets in batch])
        # [T, B]: where each bag begins among all.
        ends = lengths.t().flatten().cumsum(0)
        starts = (ends - lengths.t().flatten()).view(-1, len(batch)).t()
        joined = torch.empty(int(ends[-1]), dtype=torch.int32, device=self.device)
        first_row = 0
        for (indices, offsets), own, start, (rows, _, _) in zip(batch, lengths, starts, self.tables):
            moved = torch.repeat_interleave(start - offsets, own)
            joined[moved + torch.arange(len(indices), device=self.device)] = (indices + first_row).to(torch.int32)
            first_row += rows
        return [(joined, starts.t().flatten().to(torch.int32))]

    def run(self, variant, precision, rounds, oneTable=False):
        torch = self.torch
        if self.device == "cuda":
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        dtype = torch.float32 if precision == "tf32" else getattr(torch, precision)
        if oneTable and self.whole is None:
            raise RuntimeError("the tables differ in dim or dtype: they are no one table")
        cast = lambda layers: [tuple(part.to(dtype) for part in layer) for layer in layers]
        weights = [self.whole] if oneTable else self.weights
        forward = self._network(weights, cast(self.bottom), cast(self.cross), cast(self.top), dtype)
        if variant == "compile":
            # What was compiled for other lookups would have this one compiled for shapes of any size.
            torch.compiler.reset()
            forward = torch.compile(forward)
        dense = self.dense.to(dtype)
        batches = [self._joined(batch) for batch in self.batches] if oneTable else self.batches
        calls = [(lambda batch=batch: forward(dense, batch)) for batch in batches]
        if variant != "eager":
            calls = [self._captured(call) for call in calls]
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

    def _network(self, weights, bottom, cross, top, dtype):
        """The model as a function of dense features [B, F] and the bags of each table, or of the one table."""
        torch, mode, pairs = self.torch, self.mode, self.pairs
        functional = torch.nn.functional

        def forward(dense, batch):
            x = dense
            for weight, bias in bottom:
                x = torch.relu(functional.linear(x, weight, bias))
            pooled = [functional.embedding_bag(indices, weight, offsets, mode=mode).to(dtype) for weight, (indices, offsets) in zip(weights, batch)]
            z = torch.cat([x] + [rows.view(x.shape[0], -1) for rows in pooled], dim=1)
            y = z
            for v, w, bias in cross:
                y = torch.addcmul(y, z, functional.linear(functional.linear(y, v), w, bias))
            if not cross:
                rows = z.view(x.shape[0], -1, x.shape[1])
                products = torch.bmm(rows, rows.transpose(1, 2))
                y = torch.cat([x, products[:, pairs[0], pairs[1]]], dim=1)
            for weight, bias in top[:-1]:
                y = torch.relu(functional.linear(y, weight, bias))
            weight, bias = top[-1]
            return torch.sigmoid(functional.linear(y, weight, bias))

        return forward

    def _captured(self, call):
        """The call as a CUDA graph; its first run, which compiles, is before it."""
        torch = self.torch
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            call()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            call()
        return graph.replay


if __name__ == "__main__":
    serve(Dlrm)
