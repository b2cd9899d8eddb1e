"""The command line: `python -m stack up|down|env --dir DIR [--docker]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from stack.docker import DockerStack
from stack.processes import StackError
from stack.stack import Stack


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stack", description=__doc__)
    parser.add_argument("action", choices=["up", "down", "env"])
    parser.add_argument("--dir", type=Path, default=Path(".stack"), help="folder that remembers the stack (.stack)")
    parser.add_argument("--docker", action="store_true", help="in containers")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    docker = chosen.docker or DockerStack.made(chosen.dir)
    stack = DockerStack(chosen.dir) if docker else Stack(chosen.dir)
    try:
        if chosen.action == "up":
            stack.up()
            print(stack.summary())
        elif chosen.action == "down":
            stack.down()
        else:
            print(stack.env_file.read_text(), end="")
    except StackError as error:
        print(f"pg_envelope: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
