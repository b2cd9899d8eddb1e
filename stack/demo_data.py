"""Makes customers and chat messages for the demo: invented, but shaped like real ones, and the same in every run."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import date, timedelta

SEED = 4711
FIRST_NAMES = """
Ada Zoë Łukasz Søren Björn Inés María José Amélie Chloé Jürgen Håkon Siân Nuñez Aoife Renée Thảo 美咲 伟 Olga
Priya Kwame Yusuf Elif Noor Ivan Luca Marta Nils Freya Omar Hana
"""
LAST_NAMES = """
Lovelace García Müller Åkesson O'Brien Ñíguez Kowalski Nguyễn Dvořák Şahin Öztürk Ivanova Okafor Hansen
Rossi Fernández Schmidt Dubois Petrov Kaya Tanaka 王 Silva Murphy Jansen Novák Papadopoulos Andersson Kim
Diallo
"""
FIRST, LAST = FIRST_NAMES.split(), LAST_NAMES.split()
CITIES = ("Kraków", "Göteborg", "São Paulo", "Zürich", "Đà Nẵng", "Reykjavík", "İzmir", "Montréal", "京都", "Lagos")
OPENINGS = ("Hi, it's {name} 👋", "Guten Tag,", "Bonjour 🙂", "Hello again,", "Dzień dobry,", "こんにちは、", "Olá!")
MIDDLES = (
    "my order {number} has not arrived yet. Can you look into it?",
    "please change my number to {phone} – the old one is gone.",
    "the invoice of last month is wrong: it says {number},00 €.",
    "I was at Dr. {last}'s on Tuesday; the blood test came back fine 🎉",
    "could you cancel the subscription?\nI tried it twice in the app, and it says “error”.",
)
CLOSINGS = ("Thanks!\n{name}", "Best regards,\n{name} {last}", "– {name}", "Merci d'avance !", "🙏")

CUSTOMER_COLUMNS = ("id", "name", "email", "phone", "born", "profile")
MESSAGE_COLUMNS = ("id", "customer_id", "sent_at", "body")


def customers(count: int) -> Iterator[tuple[object, ...]]:
    """`count` rows of CUSTOMER_COLUMNS."""
    draw = random.Random(SEED)
    for number in range(1, count + 1):
        first, last = draw.choice(FIRST), draw.choice(LAST)
        email = f"customer.{number}@{draw.choice(('example.org', 'example.com', 'example.net'))}"
        born = date(1930, 1, 1) + timedelta(days=draw.randrange(29_000))
        yield number, f"{first} {last}", email, _phone(draw), born, json.dumps(_profile(draw), ensure_ascii=False)


def messages(count: int, customers: int) -> Iterator[tuple[object, ...]]:
    """`count` rows of MESSAGE_COLUMNS from `customers` customers; bodies have several lines."""
    draw = random.Random(SEED + 1)
    for number in range(1, count + 1):
        sent = f"2026-{draw.randrange(1, 12):02d}-{draw.randrange(1, 29):02d} {draw.randrange(24):02d}:15:00+00"
        yield number, draw.randrange(1, customers + 1), sent, _body(draw)


def _phone(draw: random.Random) -> str:
    return f"+{draw.randrange(1, 99)} {draw.randrange(100, 999)} {draw.randrange(1_000_000, 9_999_999)}"


def _profile(draw: random.Random) -> dict[str, object]:
    return {"city": draw.choice(CITIES), "newsletter": draw.random() < 0.3, "points": draw.randrange(10_000)}


def _body(draw: random.Random) -> str:
    text = "\n".join((draw.choice(OPENINGS), draw.choice(MIDDLES), draw.choice(CLOSINGS)))
    fill = {"name": draw.choice(FIRST), "last": draw.choice(LAST), "phone": _phone(draw)}
    return text.format(number=draw.randrange(1000, 99_999), **fill)
