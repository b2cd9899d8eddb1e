"""The way in. Also while the command itself is still being loaded, Ctrl-C ends it without a traceback."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The command `pg-envelope`."""
    try:
        from pg_envelope_client.cli import app

        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
