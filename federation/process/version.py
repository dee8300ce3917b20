"""The version of this software: what `--version` prints and what a node agent tells the gateway."""

VERSION = "0.1.0"
