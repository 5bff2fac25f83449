"""Trains a DLRM-DCNv2 on planted labels, for `hotrow evaluate` to say what a precision costs on a model that has learned.

  python3 bench/accuracy/train_dlrm_dcnv2.py OUT [--device cuda] [--samples 12000000] [--evaluation 1048576] [--seed 1] [--small]

writes OUT/model.safetensors by Hotrow's names, OUT/requests-{i}.safetensors with OUT/labels.safetensors of samples that it was not
trained on, and a line of JSON: log loss and AUC of the model and of the labels' own probabilities. It fails where the model's
AUC is not from 0.75 to 0.85. It needs PyTorch, and takes about a minute on an H200; --small is for a CPU.

The model is MLPerf's (mlcommons/training, recommendation_v2) with at most 40,000 rows a table: 26 tables of dim 128, bags of its
multi-hot lengths, bottom 13-512-256-128, three cross layers of rank 512, top 1024-1024-512-256-1. Rows are drawn as
floor(rows * u^3), u uniform: a tenth of the lookups hit a thousandth of a table.

Labels are planted: each row has a vector of 8 numbers, N(0, 1). A sample's bag of a table is the sum of its vectors over the
square root of its length. Its logit is

  -1.1 + 1.7 (0.8 linear + 0.5 pairs + 0.33 dense)

where linear is the sum of the bags' first numbers, pairs the sum over pairs of tables of the dot products of the others, and
dense a sum of sines of the dense features with seeded weights, each scaled to a variance of about 1; the label is 1 with the
logit's probability. Training sees each sample once: Adam, binary cross-entropy, rates that fall as a cosine.
"""

import argparse
import json
import math
import os
import struct
import time

import torch

ROWS = [40000000, 39060, 17295, 7424, 20265, 3, 7122, 1543, 63, 40000000, 3067956, 405282, 10, 2209, 11938, 155, 4, 976, 14, 40000000, 40000000, 40000000, 590152, 12973, 108, 36]
LOOKUPS = [3, 2, 1, 2, 6, 1, 1, 1, 1, 7, 3, 8, 1, 6, 9, 5, 1, 1, 1, 12, 100, 27, 10, 3, 1, 1]
FULL = {"tables": 26, "most_rows": 40_000, "dim": 128, "bottom": [512, 256], "cross": 3, "rank": 512, "top": [1024, 1024, 512, 256]}
SMALL = {"tables": 8, "most_rows": 500, "dim": 16, "bottom": [32], "cross": 2, "rank": 16, "top": [64, 32]}
DENSE_FEATURES = 13
PLANTED = 8
BATCH = 8192
REQUEST_SAMPLES = 131_072


class Labels:
    """Draws samples with planted labels."""

    def __init__(self, shape, device, seed):
        self.rows = [min(rows, shape["most_rows"]) for rows in ROWS[: shape["tables"]]]
        self.lookups = LOOKUPS[: shape["tables"]]
        self.device = device
        self.random = torch.Generator(device).manual_seed(seed)
        columns = [(start, rows) for start, rows, lookups in zip(self.starts(), self.rows, self.lookups) for _ in range(lookups)]
        self.start, self.extent = torch.tensor(columns, device=device).t()
        ends = torch.tensor(self.lookups, device=device)
        self.bag_starts = ends.cumsum(0) - ends
        self.root = ends.sqrt().view(1, -1, 1)
        self.planted = torch.randn(sum(self.rows), PLANTED, generator=self.random, device=device)
        self.slopes = torch.randn(DENSE_FEATURES, generator=self.random, device=device)

    def starts(self):
        """The first row of each table, where all are the rows of one matrix."""
        return [sum(self.rows[:t]) for t in range(len(self.rows))]

    def offsets(self, samples):
        """Where the bags begin in flat indices, sample by sample, its tables side by side."""
        return (torch.arange(samples, device=self.device).view(-1, 1) * len(self.start) + self.bag_starts).flatten()

    def draw(self, samples):
        """dense [B, 13]; rows of the one matrix [B, lookups of a sample]; the labels' logits [B]; labels [B]."""
        random = {"generator": self.random, "device": self.device}
        dense = torch.randn(samples, DENSE_FEATURES, **random)
        uniform = torch.rand(samples, len(self.start), **random)
        within = torch.minimum((self.extent * uniform**3).long(), self.extent - 1)
        rows = within + self.start
        bags = torch.nn.functional.embedding_bag(rows.flatten(), self.planted, self.offsets(samples), mode="sum")
        bags = bags.view(samples, len(self.rows), PLANTED) / self.root
        linear = bags[:, :, 0].sum(1) / len(self.rows) ** 0.5
        others = bags[:, :, 1:]
        pairs = ((others.sum(1) ** 2).sum(1) - (others**2).sum((1, 2))) / 2
        pairs = pairs / ((PLANTED - 1) * len(self.rows) * (len(self.rows) - 1) / 2) ** 0.5
        waves = (torch.sin(2 * dense) * self.slopes).sum(1) / (DENSE_FEATURES / 2) ** 0.5
        logits = -1.1 + 1.7 * (0.8 * linear + 0.5 * pairs + 0.33 * waves)
        labels = (torch.rand(samples, **random) < torch.sigmoid(logits)).float()
        return dense, rows, logits, labels


class Model:
    """Parameters by Hotrow's names, and the logits that they give."""

    def __init__(self, shape, labels, device, seed):
        self.labels, self.shape = labels, shape
        random = torch.Generator(device).manual_seed(seed)
        uniform = lambda bound, *extents: (2 * torch.rand(*extents, generator=random, device=device) - 1) * bound
        self.parameters = {"tables": torch.cat([uniform((1 / rows) ** 0.5, rows, shape["dim"]) for rows in labels.rows])}
        width = shape["dim"] * (len(labels.rows) + 1)
        for name, widths in self.mlps(width):
            for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
                self.parameters[f"{name}.{i}.weight"] = uniform((6 / (inputs + outputs)) ** 0.5, outputs, inputs)
                self.parameters[f"{name}.{i}.bias"] = torch.zeros(outputs, device=device)
        for i in range(shape["cross"]):
            bound = (6 / (width + shape["rank"])) ** 0.5
            self.parameters[f"cross.{i}.v"] = uniform(bound, shape["rank"], width)
            self.parameters[f"cross.{i}.w"] = uniform(bound, width, shape["rank"])
            self.parameters[f"cross.{i}.bias"] = torch.zeros(width, device=device)
        for parameter in self.parameters.values():
            parameter.requires_grad_()

    def mlps(self, width):
        bottom, top = self.shape["bottom"], self.shape["top"]
        return [("bottom", [DENSE_FEATURES, *bottom, self.shape["dim"]]), ("top", [width, *top, 1])]

    def logits(self, dense, rows):
        functional, own = torch.nn.functional, self.parameters
        x = dense
        for i in range(len(self.shape["bottom"]) + 1):
            x = torch.relu(functional.linear(x, own[f"bottom.{i}.weight"], own[f"bottom.{i}.bias"]))
        pooled = functional.embedding_bag(rows.flatten(), own["tables"], self.labels.offsets(len(dense)), mode="sum")
        z = torch.cat([x, pooled.view(len(dense), -1)], 1)
        y = z
        for i in range(self.shape["cross"]):
            product = functional.linear(functional.linear(y, own[f"cross.{i}.v"]), own[f"cross.{i}.w"], own[f"cross.{i}.bias"])
            y = torch.addcmul(y, z, product)
        last = len(self.shape["top"])
        for i in range(last):
            y = torch.relu(functional.linear(y, own[f"top.{i}.weight"], own[f"top.{i}.bias"]))
        return functional.linear(y, own[f"top.{last}.weight"], own[f"top.{last}.bias"]).flatten()

    def tensors(self):
        named = {name: parameter.detach() for name, parameter in self.parameters.items() if name != "tables"}
        tables = self.parameters["tables"].detach().split(self.labels.rows)
        return {**{f"tables.table_{t:02}.weight": rows for t, rows in enumerate(tables)}, **named}


def train(model, labels, samples):
    steps = math.ceil(samples / BATCH)
    adam = torch.optim.Adam(list(model.parameters.values()), lr=1e-3)
    warm_up = max(1, steps // 20)
    rate = lambda step: min(1, (step + 1) / warm_up) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(adam, rate)
    for step in range(steps):
        dense, rows, _, wanted = labels.draw(BATCH)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model.logits(dense, rows), wanted)
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
        if step % max(1, steps // 10) == 0:
            print(f"step {step} of {steps}: log loss {loss.item():.4f}", flush=True)


def auc(scores, labels):
    """The chance that a sample with label 1 scores higher than one with label 0; ties, which are rare, by their order."""
    ranks = torch.empty_like(scores, dtype=torch.float64)
    ranks[scores.argsort()] = torch.arange(1, len(scores) + 1, dtype=torch.float64, device=scores.device)
    ones = labels.sum().double()
    zeros = len(labels) - ones
    return ((ranks[labels == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros)).item()


DTYPES = {torch.float32: "F32", torch.int32: "I32"}


def save(path, tensors):
    """safetensors: the length of a JSON header, the header, the arrays one behind the other."""
    header, end = {}, 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.cpu().contiguous().numpy().tobytes())


def request(labels, dense, rows):
    """Bags of one length a table, by the table's own rows."""
    tensors = {"dense": dense}
    parts = (rows - labels.start).to(torch.int32).split(labels.lookups, 1)
    return {**tensors, **{f"indices.{t}": part for t, part in enumerate(parts)}}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--samples", type=int, default=12_000_000)
    parser.add_argument("--evaluation", type=int, default=1_048_576)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--small", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    torch.backends.cuda.matmul.allow_tf32 = True
    shape = SMALL if options.small else FULL
    labels = Labels(shape, options.device, options.seed)
    model = Model(shape, labels, options.device, options.seed + 1)
    train(model, labels, options.samples)

    torch.backends.cuda.matmul.allow_tf32 = False
    os.makedirs(options.out, exist_ok=True)
    save(os.path.join(options.out, "model.safetensors"), model.tensors())
    scores, planted, wanted = [], [], []
    with torch.no_grad():
        for number, first in enumerate(range(0, options.evaluation, REQUEST_SAMPLES)):
            dense, rows, logits, own = labels.draw(min(REQUEST_SAMPLES, options.evaluation - first))
            save(os.path.join(options.out, f"requests-{number}.safetensors"), request(labels, dense, rows))
            scores += [model.logits(*part) for part in zip(dense.split(BATCH), rows.split(BATCH))]
            planted.append(logits)
            wanted.append(own)
    scores, planted, wanted = torch.cat(scores), torch.cat(planted), torch.cat(wanted)
    save(os.path.join(options.out, "labels.safetensors"), {"labels": wanted})
    loss = lambda logits: torch.nn.functional.binary_cross_entropy_with_logits(logits.double(), wanted.double()).item()
    figures = {
        "model": {"logLoss": loss(scores), "auc": auc(scores, wanted)},
        "planted": {"logLoss": loss(planted), "auc": auc(planted, wanted)},
        "ones": wanted.mean().item(),
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(figures))
    if not 0.75 <= figures["model"]["auc"] <= 0.85:
        raise SystemExit("the model's AUC is not from 0.75 to 0.85")


if __name__ == "__main__":
    main()
