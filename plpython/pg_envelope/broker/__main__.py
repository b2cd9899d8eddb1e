"""`python -m pg_envelope.broker --config FILE [--check]`: the broker without the pg-envelope command."""

from __future__ import annotations

import argparse
import gc
import sys
from pathlib import Path

from pg_envelope import errors
from pg_envelope.broker.prepare import prepare


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m pg_envelope.broker", description="the key broker of pg_envelope")
    parser.add_argument("--config", type=Path, required=True, help="the broker's TOML file")
    parser.add_argument("--check", action="store_true", help="check configuration and KMS, then stop")
    chosen = parser.parse_args(arguments)
    prepare(chosen.config)
    return _report(chosen.config) if chosen.check else _run(chosen.config)


# These imports load `cryptography`, and so they come after prepare().
def _run(config: Path) -> int:
    # What an import makes stays as long as the process. To look for garbage in it takes a tenth of the import's time.
    gc.disable()
    from pg_envelope.broker import app

    gc.freeze()
    gc.enable()
    return app.run(config)


def _report(config: Path) -> int:
    from pg_envelope.broker import startup
    from pg_envelope.broker.check import check

    try:
        startup.become_owner(config)
    except errors.EnvelopeError as error:
        print(f"failed   user: {error.message}")
        return 1
    findings = check(config)
    for found in findings:
        print(f"{found.state:8} {found.name}: {found.detail}" + (f"\n         {found.hint}" if found.hint else ""))
    return 1 if any(found.state == "failed" for found in findings) else 0


if __name__ == "__main__":
    sys.exit(main())
