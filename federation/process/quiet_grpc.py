"""Imported for its effect, before gRPC is: gRPC's C core then writes no lines of its own on stderr, which is the log and
holds JSON alone. Whoever looks for the reason of a refused TLS handshake sets GRPC_VERBOSITY=INFO in the environment.
"""

import os

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read once, when gRPC is loaded
