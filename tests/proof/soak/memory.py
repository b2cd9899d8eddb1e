"""Memory of processes over a run, and whether it is flat."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

# A process is judged from when it is warm until the run's last acts: shares of the run.
FROM, TO = 0.25, 0.95
# What the last third may be above the first one: what a heap varies by, without growing.
FACTOR, SLACK_KB = 1.05, 1024
# A pool of threads is full by then, and each act has happened.
LATEST_WARM = 0.75
# Too few samples are a process that was not there.
FEWEST = 6


def private_kb(pid: int) -> int:
    """Memory that is this process's alone; what backends share, shared_buffers above all, is left out."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@dataclass
class Series:
    """Samples of one process: share of the run, kB, open files, threads."""

    name: str
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)

    def take(self, share: float, pid: int) -> None:
        """A process that has just ended, or begun anew, gives none."""
        try:
            self.samples.append((share, private_kb(pid), open_files(pid), threads(pid)))
        except OSError:
            return

    def warm(self, since: float) -> float:
        """The share of the run, at least `since`, at which it has all of its threads. Each needs memory of its own."""
        judged = [(share, count) for share, _, _, count in self.samples if since <= share <= TO]
        most = max((count for _, count in judged), default=0)
        # One that comes and goes is none of the pool.
        return min((share for share, count in judged if count >= most - 1), default=since)

    def thirds(self, what: int, since: float = FROM) -> tuple[float, float]:
        """Medians of the first and the last third of the samples since a share of the run."""
        judged = [sample[what] for sample in self.samples if since <= sample[0] <= TO]
        assert len(judged) >= FEWEST, f"{self.name}: {len(judged)} samples are too few"
        third = len(judged) // 3
        return statistics.median(judged[:third]), statistics.median(judged[-third:])

    def faults(self, since: float = FROM) -> list[str]:
        """Empty when it is flat from that share of the run on."""
        found = []
        warm = self.warm(since)
        if warm > LATEST_WARM:
            return [f"{self.name}: it was warm only when {warm:.0%} of the run were over: let it run longer"]
        first, last = self.thirds(1, warm)
        if last > first * FACTOR + SLACK_KB:
            found.append(f"{self.name}: memory grew from {first:.0f} kB to {last:.0f} kB")
        first, last = self.thirds(2, warm)
        if last > first + FEWEST:
            found.append(f"{self.name}: open files grew from {first:.0f} to {last:.0f}")
        return found

    def line(self) -> str:
        first, last = self.thirds(1)
        return f"  {self.name:24} {first / 1024:7.1f} MB {last / 1024:7.1f} MB"
