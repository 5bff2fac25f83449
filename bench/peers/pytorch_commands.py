"""What the PyTorch peers of `hotrow bench` share: the loop that answers commands, and what tables and lookups become.

A peer is started as `python3 PEER.py`; one JSON command a line on standard input, one JSON answer a line on standard
output. Before the first answer it says {"version": "2.11.0", "cuda": true}, or {"unavailable": "why"} and ends.

  {"setup": {..., "threads": 2}}   makes the peer: Peer(torch, ...)   -> {"threads": 2}
  {"load": {...}}                  peer.load(...)                     -> its answer
  {"run": {...}}                   peer.run(...)                      -> its answer

A command that fails answers {"failed": "why"}. Gradients are off.
"""

import json
import os
import sys


def serve(Peer):
    try:
        import torch
    except ImportError as error:
        print(json.dumps({"unavailable": str(error)}), flush=True)
        return
    print(json.dumps({"version": torch.__version__, "cuda": torch.cuda.is_available()}), flush=True)
    peer = None
    for line in sys.stdin:
        [(verb, arguments)] = json.loads(line).items()
        try:
            with torch.no_grad():
                if verb == "setup":
                    torch.set_num_threads(arguments.pop("threads"))
                    peer = Peer(torch, **arguments)
                    answer = {"threads": torch.get_num_threads()}
                else:
                    answer = {"load": peer.load, "run": peer.run}[verb](**arguments)
        except Exception as error:
            lines = str(error).splitlines()
            answer = {"failed": lines[0] if lines else type(error).__name__}
        print(json.dumps(answer), flush=True)


def random_tables(torch, tables, device):
    """Weights of shapes [[rows, dim, "float32"], ...], uniform in [0, 1)."""
    return [torch.rand(rows, dim, dtype=torch.float32, device=device).to(getattr(torch, dtype)) for rows, dim, dtype in tables]


def read_batches(torch, batches, device):
    """(indices, offsets) of every table of every batch, from [[["indices.bin", "offsets.bin"], ... a table each], ...].

    The files are of little-endian int64; offsets have a batch's entries, without the last end.
    """
    read = lambda path: torch.from_file(path, size=os.path.getsize(path) // 8, dtype=torch.int64).clone().to(device)
    return [[(read(indices), read(offsets)) for indices, offsets in batch] for batch in batches]
