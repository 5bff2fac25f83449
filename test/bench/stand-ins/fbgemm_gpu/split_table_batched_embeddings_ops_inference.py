import os
import struct

import torch
from torch import STAND_IN

from .split_embedding_configs import SparseType
from .split_table_batched_embeddings_ops_common import BoundsCheckMode, EmbeddingLocation, PoolingMode

HEADER_BYTES = 4
BITS = {SparseType.FP32: 32, SparseType.FP16: 16, SparseType.FP8: 8, SparseType.INT8: 8, SparseType.INT4: 4}
# Calls that go well before "fails-late" and "dies-late": the set-up's, the load's, and some of the first turn's.
LATE = 20


class IntNBitTableBatchedEmbeddingBagsCodegen:
    """Pools for real, whatever its rows hold; 3 ms a call."""

    def __init__(
        self,
        embedding_specs,
        pooling_mode=PoolingMode.SUM,
        device=None,
        bounds_check_mode=BoundsCheckMode.WARNING,
        output_dtype=SparseType.FP16,
        fp8_exponent_bits=None,
        fp8_exponent_bias=None,
    ):
        assert bounds_check_mode == BoundsCheckMode.NONE, "calls check indices"
        assert output_dtype == SparseType.FP32, "pooled rows are not float32"
        assert device == "cuda" and all(place == EmbeddingLocation.DEVICE for *_, place in embedding_specs)
        types = [sparse_type for _, _, _, sparse_type, _ in embedding_specs]
        if "no-int8" in STAND_IN and SparseType.INT8 in types:
            raise RuntimeError("INT8 rows need a newer GPU\nException raised from somewhere")
        if SparseType.FP8 in types:
            assert (fp8_exponent_bits, fp8_exponent_bias) == (4, 7)
        self.specs, self.pooling_mode, self.calls, self.weights = embedding_specs, pooling_mode, 0, None

    def fill_random_weights(self):
        """The header stays 0, and bytes may be no numbers."""
        self.weights = [self._random(rows, dim, sparse_type) for _, rows, dim, sparse_type, _ in self.specs]

    def _random(self, rows, dim, sparse_type):
        row_bytes = -(-(_header(sparse_type) + dim * BITS[sparse_type] // 8) // 16) * 16
        return torch.Tensor(torch.uint8, [rows, row_bytes], memoryview(bytearray(b"\xff" * (rows * row_bytes))))

    def split_embedding_weights(self, split_scale_shifts=True):
        assert not split_scale_shifts, "the stand-in has whole rows only"
        return [(weights, None) for weights in self.weights]

    def __call__(self, indices, offsets):
        self.calls += 1
        if self.calls > LATE and "fails-late" in STAND_IN:
            raise RuntimeError("an illegal memory access was encountered")
        if self.calls > LATE and "dies-late" in STAND_IN:
            os._exit(1)
        if "no-kernels" in STAND_IN:
            raise NotImplementedError("Could not run the operator with arguments from the 'CUDA' backend.\nmore")
        if "int32-only" in STAND_IN and indices.dtype != torch.int32:
            raise RuntimeError("expected scalar type Int but found Long")
        assert indices.dtype == offsets.dtype
        torch.cuda.tick(3)
        rows, ends = indices.values(), offsets.values()
        if "wrong-rows" in STAND_IN:
            indices._fill(lambda: 0)
        count = len(self.specs)
        bags = (len(ends) - 1) // count
        assert len(ends) == count * bags + 1 and ends[0] == 0 and ends[-1] == len(rows)
        pooled = []
        for bag in range(bags):
            for t in range(count):
                begin, end = ends[t * bags + bag], ends[t * bags + bag + 1]
                pooled += self._pool(t, rows[begin:end])
        return torch.Tensor.of(torch.float32, [bags, len(pooled) // bags], pooled)

    def _pool(self, t, rows):
        _, _, dim, sparse_type, _ = self.specs[t]
        row_bytes = self.weights[t].shape[1]
        data = self.weights[t].data
        values = [_decode(bytes(data[row * row_bytes : (row + 1) * row_bytes]), dim, sparse_type) for row in rows]
        sums = [sum(column) for column in zip(*values)] or [0] * dim
        share = 1 / max(1, len(rows)) if self.pooling_mode == PoolingMode.MEAN else 1
        return [share * value + ("wrong-sums" in STAND_IN) for value in sums]


def _header(sparse_type):
    return HEADER_BYTES if sparse_type in (SparseType.INT8, SparseType.INT4) else 0


def _decode(row, dim, sparse_type):
    if sparse_type == SparseType.FP32:
        return struct.unpack_from(f"<{dim}f", row)
    if sparse_type == SparseType.FP16:
        return struct.unpack_from(f"<{dim}e", row)
    if sparse_type == SparseType.FP8:
        return [_e4m3(byte) for byte in row[:dim]]
    scale, bias = struct.unpack_from("<2e", row)
    body = row[HEADER_BYTES:]
    if sparse_type == SparseType.INT8:
        return [scale * byte + bias for byte in body[:dim]]
    return [scale * (body[d // 2] >> 4 * (d % 2) & 15) + bias for d in range(dim)]


def _e4m3(byte):
    exponent, mantissa = byte >> 3 & 15, byte & 7
    value = mantissa / 8 * 2**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7)
    return -value if byte & 128 else value
