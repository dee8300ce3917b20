"""What holds for every test."""

from __future__ import annotations

import os

# A process that tests fork, to limit or to kill it, may hang in gRPC's own fork handlers when an earlier test used gRPC.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
