"""How the benchmark makes figures of samples, and judges them."""

from __future__ import annotations

import pytest

from bench import page, points, targets
from bench.figures import Measure, Samples, interleaved, of_cpu
from bench.settings import Settings, parse


def test_one_slow_sample_moves_neither_figure_nor_spread_much() -> None:
    quiet = Samples([10.0, 10.1, 9.9, 10.0, 10.2, 9.8, 10.0, 10.1])
    disturbed = Samples([*quiet.values[:-1], 1000.0])
    assert disturbed.figure == pytest.approx(quiet.figure, rel=0.01)
    assert disturbed.spread < 0.02


def test_spread_is_relative_and_symmetric() -> None:
    assert Samples([90.0, 100.0, 110.0]).spread == pytest.approx(0.05)
    assert Samples([100.0]).spread == 0.0


def test_of_processor_time_the_lowest_sample_counts() -> None:
    found = of_cpu({"a": iter([12.0, 11.0, 30.0, 10.0, 12.0, 12.0]).__next__}, 2)["a"]
    assert found.figure == 10.0
    assert found.spread == pytest.approx(0.1)
    assert len(found.values) == 6
    assert of_cpu({"a": lambda: 1.0}, 1)["a"].values == [1.0]


def test_peers_take_turns_in_changing_order() -> None:
    order: list[str] = []

    def take(name: str) -> float:
        order.append(name)
        return float(len(order))

    samples = interleaved({"a": lambda: take("a"), "b": lambda: take("b")}, 3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    assert samples["a"].values == [1.0, 4.0, 5.0]


def measured(name: str, **figures: float) -> Measure:
    return Measure(name, name, "", {peer: Samples([figure]) for peer, figure in figures.items()})


WRITES = ("insert_select", "insert_single", "update_open", "update_1", "update_3", "delete", "new_subject")
SEARCHES = ("search_small", "search_large", "search_any", "search_in", "search_insert")
RIGHTS = ("rls_column", "rls_row", "rls_update", "named_encrypt", "named_decrypt")


def judged(
    scan: float = 2.0,
    point: float = 90.0,
    first: float = 1.2,
    requests: int = 0,
    right: float = 3.0,
    write: float = 1.0,
    asked: float = 60.0,
    search: float = 1.0,
    audited: float = 1.0,
    old: float = 1.0,
    client: float = 0.5,
) -> list[bool | None]:
    measures = [
        measured("scan_1", ours=scan, pgcrypto_iv=1.0, pgcrypto_pgp=100.0),
        measured("point_unix_column", ours=point, plain=100.0),
        measured("point_tcp_column", ours=point, plain=100.0),
        measured("first_read", ours=first, bare=1.0),
        *(measured(name, ours=write, plain=1.0) for name in WRITES),
        measured("subjects_asked", ours=asked),
        *(measured(name, ours=right, plain=1.0) for name in RIGHTS),
        *(measured(name, ours=search, plain=1.0) for name in SEARCHES),
        *(measured(name, audited=audited, ours=1.0) for name in ("audited_scan", "audited_point")),
        measured("masked_scan", clear=audited, masked=audited, ours=1.0),
        *(measured(name, pgcrypto_pgp=1 / old, ours=0.05) for name in ("adopted_scan", "adopted_after")),
        *(measured(name, ours=old, library=1.0) for name in ("adopted_fernet", "adopted_node_json")),
        measured("adopted_converted", adopted=old, ours=1.0),
        measured("adopted_convert", ours=10_000 / old),
        *(measured(name, ours=client, aesgcm=0.1, fernet=1.0) for name in ("client_seal", "client_open")),
        measured("client_token", ours=client, hmac=0.2),
        measured("client_bulk", ours=client, plain=0.1),
        measured("secret_cached", ours=client),
        measured("secret_cold", ours=1000 * client),
        *(measured(name, ours=1 / client, age=1.0) for name in ("file_seal", "file_open")),
        measured("vector_open", ours=client, text=10.0),
        measured("vector_stored", ours=client, text=2.0),
        measured("vector_memory", ours=client, text=4.0),
    ]
    return [target.met for target in targets.evaluate(measures, requests)]


def test_targets() -> None:
    assert judged() == [True] * 47
    assert judged(client=1.5)[35:] == [False] * 12
    assert judged(old=100)[29:35] == [False] * 6
    assert judged(scan=3.1)[:6] == [False, False, True, True, True, True]
    assert judged(point=84.0)[:6] == [True, True, False, False, True, True]
    assert judged(first=1.6, requests=1)[:6] == [True, True, True, True, False, False]
    assert judged(write=21)[6:13] == [False] * 7
    assert judged(asked=61)[13:21] == [False, *[True] * 7]
    assert judged(right=8.5)[14:23] == [False, False, False, True, True, True, True, False, False]
    assert judged(audited=1.5)[17:21] == [False] * 4
    assert judged(search=2.5)[23:29] == [False, False, True, False, False, False]


def test_a_peer_that_is_not_there_is_not_judged() -> None:
    assert measured("scan_1", ours=1.0).ratio("ours", "pgcrypto_iv") is None
    assert targets.Target("", 1, None).met is None


def test_a_point_read_s_rate_leaves_out_the_first_second() -> None:
    said = """progress: 1.0 s, 100.0 tps, lat 0.024 ms stddev 0.010, 0 failed
number of transactions actually processed: 700
tps = 233.3 (without initial connection time)"""
    assert points._warm_rate(said, Settings(point_seconds=3)) == pytest.approx(300.0)
    assert points._warm_rate(said, Settings(point_seconds=0)) == pytest.approx(233.3)


def test_slow_peers_get_a_part_of_the_rows_but_never_none() -> None:
    assert Settings().rows_of(True, 200_000) == 2000
    assert Settings().rows_of(True, 20) == 1
    assert Settings().rows_of(False, 20) == 20


def test_quick_is_tiny_and_the_issue_s_sizes_are_the_default() -> None:
    assert (parse([]).rows, parse([]).insert_rows) == (200_000, 10_000)
    assert parse(["--quick"]).rows <= 200
    assert parse(["--quick", "--rows", "50"]).rows == 50
    assert (parse(["--rows", "7", "--rounds", "3"]).rows, parse(["--rounds", "3"]).rounds) == (7, 3)


def a_run(load: float = 1.5) -> page.Run:
    def peers(**figures: float) -> dict[str, dict[str, float]]:
        return {name: {"figure": figure} for name, figure in figures.items()}

    return {
        "date": "2026-11-26T11:00:00+00:00",
        "versions": {"commit": "abc1234", "postgresql": "PostgreSQL 15.18", "cpus": 2, "machine": "x86_64"},
        "settings": {"rows": 200_000, "rounds": 8},
        "load": (1.0, load),
        "missing": ["pgsodium"],
        "measures": {
            "scan_1": {"title": "full scan", "unit": "µs/row", "peers": peers(plain=0.5, ours=2.0, pgcrypto_iv=1.25)},
            "first_read": {"title": "first read", "unit": "ms", "peers": peers(ours=33.0, bare=20.5)},
        },
        "targets": [
            {"text": "a scan", "limit": 3, "reached": 1.6, "at_least": False, "met": True},
            {"text": "a rate", "limit": 0.85, "reached": None, "at_least": True, "met": None},
        ],
    }


def test_what_applications_do_has_a_table_of_its_own() -> None:
    run = a_run()
    sealed = {"ours": {"figure": 4.5}, "aesgcm": {"figure": 1.0}, "age": {"figure": 2.0}}
    run["measures"]["client_seal"] = {"title": "application: seal a value", "unit": "µs", "peers": sealed}
    told = page.figures(run)
    assert "| in the application | unit | pg_envelope | AES-256-GCM alone | age | × plain |" in told
    assert "| seal a value | µs | 4.5 | 1 | 2 |  |" in told
    assert "| age |" not in told[: told.index("| in the application")]


def test_the_page_says_what_was_measured_and_where() -> None:
    assert page.figures(a_run()).splitlines()[2:-2] == [
        "Measured on 2026-11-26 at commit abc1234: PostgreSQL 15.18, 2 processors (x86_64), load 1.0 before and 1.5"
        " after,",
        "200,000 rows, 8 rounds: medians, and of CPU the lowest of three times as many. Not installed there: pgsodium.",
        "",
        "| what | unit | plain | pg_envelope | `decrypt_iv` | interpreter + import | × plain |",
        "|---|---|---|---|---|---|---|",
        "| full scan | µs/row | 0.5 | 2 | 1.25 |  | 4.00 |",
        "| first read | ms |  | 33 |  | 20.5 |  |",
        "",
        "| target | limit | reached | |",
        "|---|---|---|---|",
        "| a scan | ≤ 3 | 1.6 | met |",
        "| a rate | ≥ 0.85 |  | not measured |",
    ]


def test_the_page_says_that_the_machine_was_busy() -> None:
    assert "busy" in page.figures(a_run(load=2.5))
    assert "busy" not in page.figures(a_run(load=2.0))


def test_the_page_keeps_what_stands_around_the_figures() -> None:
    before = f"# Costs\n\n{page.BEGIN}\nold\n{page.END}\n\nNotes.\n"
    after = page.written(before, a_run())
    assert after == f"# Costs\n\n{page.figures(a_run())}\n\nNotes.\n"
    assert page.written(after, a_run()) == after
    with pytest.raises(ValueError, match="no place"):
        page.written("# Costs\n", a_run())
