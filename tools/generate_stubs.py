"""Regenerate the committed stubs in federation/wire/v1 from proto/ (make proto).

Import paths equal the proto package, so nothing is rewritten. `--check` fails when the committed stubs differ.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
STUBS = Path("federation/wire/v1")


def generate(target: Path) -> None:
    files = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    out = str(target)
    arguments = ["protoc", f"-I{PROTO}", f"--python_out={out}", f"--grpc_python_out={out}"]
    arguments += [f"--mypy_out={out}", f"--mypy_grpc_out={out}", *files]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; see its message above")


def main() -> None:
    # the protoc plugins lie beside the interpreter, whether or not its environment is activated
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    if "--check" not in sys.argv:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        stale = [
            fresh.name
            for fresh in (Path(folder) / STUBS).iterdir()
            if fresh.read_bytes() != (ROOT / STUBS / fresh.name).read_bytes()
        ]
    if stale:
        raise SystemExit(f"stubs differ from proto/: {', '.join(sorted(stale))}; run make proto")


if __name__ == "__main__":
    main()
