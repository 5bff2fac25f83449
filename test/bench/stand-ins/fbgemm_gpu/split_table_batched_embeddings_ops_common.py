from enum import Enum, IntEnum


class EmbeddingLocation(IntEnum):
    DEVICE = 0
    HOST = 3


class PoolingMode(IntEnum):
    SUM = 0
    MEAN = 1
    NONE = 2


class BoundsCheckMode(IntEnum):
    FATAL = 0
    WARNING = 1
    IGNORE = 2
    NONE = 3
