"""`lantai-node`: the archive's own tool. Each command lives in the module that does its work."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import federation.process.quiet_grpc  # noqa: F401 - before gRPC is loaded
from federation.process.os_errors import said
from federation.process.output import told
from federation.process.version import VERSION

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("node_agent.app", "初始化数据目录 · prepare a data folder for one archive"),
    "import": ("node_agent.importing", "导入目录文件 · import catalogue files"),
    "files": ("node_agent.held_files", "索引中的文件 · the files the index was made of"),
    "backup": (
        "node_agent.backup.commands",
        "备份数据目录 · back up the data folder, also while the agent runs",
    ),
    "doctor": (
        "node_agent.doctor.commands",
        "检查安装与运行环境，不作改动 · look whether all is well, and change nothing",
    ),
    "remove": ("node_agent.held_files", "从索引移除整个文件 · take whole files out of the index"),
    "search": ("node_agent.searching", "在本馆窗口查询 · search the archive's own index"),
    "keys": ("node_agent.document_commands", "密钥与信任名录条目 · the archive's keys"),
    "documents": ("node_agent.document_commands", "已出具的文书 · what was issued"),
    "evidence": ("node_agent.evidence_commands", "存证日志 · the evidence log"),
    "run": ("node_agent.app", "启动节点 · run the node agent"),
    "desk": ("node_agent.desk_commands", "审核台 · the review desk"),
    "user": ("node_agent.desk.commands", "审核台用户 · who may use the review desk"),
}
"""command -> (module, help). The module offers `configure_<command>(parser)` and `run_<command>(args) -> int`."""


def _parser(named: str) -> argparse.ArgumentParser:
    """Knows all commands, and the flags of the `named` one."""
    parser = argparse.ArgumentParser(prog="lantai-node", description="蘭臺节点 · the Lantai node agent")
    parser.add_argument(
        "--version", action="version", version=f"%(prog)s {VERSION}", help="版本 · print the version"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command, (module, text) in COMMANDS.items():
        one = commands.add_parser(command, help=text, description=text)
        if command == named:  # only the asked command pays for its imports
            configure: Callable[[argparse.ArgumentParser], None] = getattr(
                import_module(module), f"configure_{command}"
            )
            configure(one)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 not done, 2 wrong use, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    named = next((word for word in arguments if not word.startswith("-")), "")
    try:
        args = _parser(named).parse_args(arguments)
        run: Callable[[argparse.Namespace], int] = getattr(
            import_module(COMMANDS[args.command][0]), f"run_{args.command}"
        )
        return told(lambda: run(args))
    except OSError as error:
        print(f"lantai-node {named}: {said(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            f"lantai-node {named}: 已中断，未完成的不留痕迹 · interrupted; what was not done has left nothing",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
