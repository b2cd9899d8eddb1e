"""Prometheus' text form."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pg_envelope.broker.watch.metrics import MAX_TOLD, Counter, Histogram, Metrics


def test_counter_escapes_its_labels():
    counter = Counter("n", "text", "op")
    counter.add('a"\n\\')
    assert list(counter.lines()) == ['n{op="a\\"\\n\\\\"} 1']


def test_a_counter_s_labels_are_bounded():
    counter = Counter("n", "text", "a", "b")
    for number in range(MAX_TOLD + 7):
        counter.add(str(number), "x")
    counter.add("0", "x")
    assert len(list(counter.lines())) == MAX_TOLD + 1
    assert counter.value("other", "other") == 7
    assert counter.value("0", "x") == 2


def test_histogram_is_cumulative():
    histogram = Histogram("h", "text", "op")
    for seconds in (0.0005, 0.002, 99):
        histogram.observe(seconds, "x")
    lines = list(histogram.lines())
    assert lines[0] == 'h_bucket{op="x",le="0.001"} 1'
    assert lines[1] == 'h_bucket{op="x",le="0.0025"} 2'
    assert lines[-3:] == ['h_bucket{op="x",le="+Inf"} 3', 'h_sum{op="x"} 99.0025', 'h_count{op="x"} 3']


def test_all_have_help_and_type():
    metrics = Metrics()
    metrics.gauge("g", "a gauge", lambda: {("a",): 1795312418000001}, "kms")
    text = metrics.render()
    assert '# HELP g a gauge\n# TYPE g gauge\ng{kms="a"} 1795312418000001\n' in text
    assert text.count("# HELP") == text.count("# TYPE")


@given(st.integers(0, 2**53))
def test_a_counter_loses_no_count(count):
    counter = Counter("n", "text")
    counter.add(by=count)
    assert list(counter.lines()) == [f"n {count}"]


@given(st.floats(0, 1e12))
def test_a_sum_loses_no_digit(seconds):
    histogram = Histogram("h", "text")
    histogram.observe(seconds)
    (line,) = [text for text in histogram.lines() if text.startswith("h_sum")]
    assert float(line.split()[1]) == seconds
