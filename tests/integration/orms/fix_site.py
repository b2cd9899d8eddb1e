"""The tests' site of Django, each part in a process of its own: Django is set up once in a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fix_stack import Database

ROOT = Path(__file__).parents[3]
SITE = Path(__file__).parent / "django_site"
CUSTOMER = """{"name": {}, "email": {"index": "drop"}, "born": {}, "balance": {}, "notes": {}, "seen": {},
    "waits": {}, "score": {}, "reference": {}, "photo": {}}"""
SEARCHED = [
    "char",
    "text",
    "small",
    "whole",
    "big",
    "exactly",
    "float",
    "flag",
    "date",
    "time",
    "instant",
    "uuid",
    "address",
    "bytes",
]


def environment(db: Database, user: str) -> dict[str, str]:
    place = {name: value for name, value in db.stack.environ().items() if name in ("PGHOST", "PGPORT")}
    site = {"SITE_DATABASE": db.name, "SITE_USER": user, "DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(SITE)}
    return {**os.environ, **place, **site}


def run(db: Database, *command: str, user: str = "owner") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=environment(db, user), capture_output=True, text=True, check=False
    )


def manage(db: Database, *command: str, user: str = "owner") -> str:
    done = run(db, "-m", "django", *command, user=user)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def seen(db: Database, *parts: str, user: str = "owner") -> list[Any]:
    done = run(db, str(SITE / "observe.py"), *parts, user=user)
    assert done.returncode == 0, done.stdout + done.stderr
    found: list[Any] = json.loads(done.stdout)
    return found


def protect(db: Database) -> None:
    searched = {name: {"search": {"exact": {"force": True}}} for name in SEARCHED}
    for table, columns in {"customer": CUSTOMER, "item": '["label"]', "thing": json.dumps(searched)}.items():
        db.sql(f"CALL envelope.protect('shop_{table}', '{columns}')")
    for table in ("customer", "item"):
        db.sql(f"CALL envelope.allow_upsert('shop_{table}')")
