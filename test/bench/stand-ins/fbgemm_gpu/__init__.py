"""A stand-in for FBGEMM_GPU, over the stand-in for PyTorch.

STAND_IN: "absent", "no-kernels" (a library that does not load), "no-int8", "int32-only", "wrong-sums", "wrong-rows",
"fails-late", "dies-late", "slow-to-say" (prints much).
"""

import sys

from torch import STAND_IN

if "absent" in STAND_IN:
    raise ModuleNotFoundError("No module named 'fbgemm_gpu'", name="fbgemm_gpu")

# As the real one, which does so when a library of its own does not load.
print("fbgemm_gpu_py.so: cannot open shared object file")
if "slow-to-say" in STAND_IN:
    sys.stderr.write("warning\n" * 100_000)

__version__ = "0.0.2"
