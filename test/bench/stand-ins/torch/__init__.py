"""A stand-in for PyTorch: what the peers of bench/peers use of it, in plain Python, on a GPU that only counts time.

STAND_IN names what goes wrong, in words: "no-gpu".
"""

import contextlib
import os
import random
import struct

__version__ = "0.0.1+stand-in"
STAND_IN = os.environ.get("STAND_IN", "").split()

uint8, int32, int64, float16, float32 = "uint8", "int32", "int64", "float16", "float32"
_CODES = {uint8: "B", int32: "i", int64: "q", float16: "e", float32: "f"}
_DTYPES = set(_CODES)


def device(name):
    return name


def get_num_threads():
    return 1


def set_num_threads(count):
    pass


no_grad = contextlib.nullcontext


class Tensor:
    """Of one or two dimensions, over bytes that views share."""

    def __init__(self, dtype, shape, data):
        self.dtype, self.shape, self.data = dtype, tuple(shape), data
        self.size = struct.calcsize(_CODES[dtype])

    @classmethod
    def of(cls, dtype, shape, values):
        values = list(values)
        return cls(dtype, shape, memoryview(bytearray(struct.pack(f"<{len(values)}{_CODES[dtype]}", *values))))

    def values(self):
        return list(struct.unpack(f"<{len(self.data) // self.size}{_CODES[self.dtype]}", self.data))

    def __len__(self):
        return self.shape[0]

    def __add__(self, number):
        return Tensor.of(self.dtype, self.shape, [value + number for value in self.values()])

    def __getitem__(self, key):
        values = self.values()
        if isinstance(key, tuple):
            row, columns = key
            width = self.shape[1]
            picked = values[row * width : (row + 1) * width][columns]
            return Tensor.of(self.dtype, [len(picked)], picked)
        if isinstance(key, slice):
            picked = values[key]
            return Tensor.of(self.dtype, [len(picked)], picked)
        width = self.shape[1]
        rows = key.values()
        return Tensor.of(self.dtype, [len(rows), width], [v for r in rows for v in values[r * width : (r + 1) * width]])

    def __setitem__(self, key, value):
        _, column = key
        for row in range(self.shape[0]):
            struct.pack_into(f"<{_CODES[self.dtype]}", self.data, (row * self.shape[1] + column) * self.size, value)

    def _fill(self, draw):
        count = len(self.data) // self.size
        struct.pack_into(f"<{count}{_CODES[self.dtype]}", self.data, 0, *(draw() for _ in range(count)))

    def uniform_(self):
        self._fill(random.random)

    def random_(self, low, high):
        self._fill(lambda: random.randrange(low, high))

    def view(self, dtype):
        size = struct.calcsize(_CODES[dtype])
        return Tensor(dtype, (self.shape[0], self.shape[1] * self.size // size), self.data)

    def to(self, what):
        return Tensor.of(what, self.shape, self.values()) if what in _DTYPES else self

    def clone(self):
        return self

    def flatten(self):
        return self

    def tolist(self):
        return self.values()


def tensor(values, dtype):
    return Tensor.of(dtype, [len(values)], values)


def zeros(count, dtype, device):
    return Tensor.of(dtype, [count], [0] * count)


def arange(count, dtype, device):
    return Tensor.of(dtype, [count], range(count))


def cat(parts):
    values = [value for part in parts for value in part.values()]
    return Tensor.of(parts[0].dtype, [len(values)], values)


def rand(rows, dim, dtype, device):
    return Tensor.of(dtype, [rows, dim], [0] * (rows * dim))


def from_file(path, size, dtype):
    with open(path, "rb") as file:
        return Tensor(dtype, [size], memoryview(bytearray(file.read())))


class cuda:
    """Time passes by calls: tick(ms)."""

    now_ms = 0.0

    @staticmethod
    def is_available():
        return "no-gpu" not in STAND_IN

    @staticmethod
    def synchronize():
        pass

    @classmethod
    def tick(cls, ms):
        cls.now_ms += ms

    class Event:
        def __init__(self, enable_timing):
            assert enable_timing

        def record(self):
            self.at_ms = cuda.now_ms

        def elapsed_time(self, later):
            return later.at_ms - self.at_ms


class nn:
    class functional:
        @staticmethod
        def embedding_bag(indices, weight, offsets, mode):
            """1 ms a table."""
            cuda.tick(1)
