"""Memory of processes over a run, and whether it is flat."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from pathlib import Path

# A process is judged from when it is warm until the run's last acts: shares of the run.
FROM, TO = 0.25, 0.95
# What the last third may be above the first one: what a heap varies by, without growing.
FACTOR, SLACK_KB = 1.05, 1024
# Too few samples are a process that was not there.
FEWEST = 6


def private_kb(pid: int) -> int:
    """Memory that is this process's alone; what backends share, shared_buffers above all, is left out."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@dataclass
class Series:
    """Samples of one process: share of the run, kB, open files."""

    name: str
    samples: list[tuple[float, int, int]] = field(default_factory=list)

    def take(self, share: float, pid: int) -> None:
        """A process that has just ended, or begun anew, gives none."""
        try:
            self.samples.append((share, private_kb(pid), open_files(pid)))
        except OSError:
            return

    def thirds(self, what: int) -> tuple[float, float]:
        """Medians of the first and the last third of what is judged."""
        judged = [sample[what] for sample in self.samples if FROM <= sample[0] <= TO]
        assert len(judged) >= FEWEST, f"{self.name}: {len(judged)} samples are too few"
        third = len(judged) // 3
        return statistics.median(judged[:third]), statistics.median(judged[-third:])

    def faults(self) -> list[str]:
        """Empty when it is flat."""
        found = []
        first, last = self.thirds(1)
        if last > first * FACTOR + SLACK_KB:
            found.append(f"{self.name}: memory grew from {first:.0f} kB to {last:.0f} kB")
        first, last = self.thirds(2)
        if last > first + FEWEST:
            found.append(f"{self.name}: open files grew from {first:.0f} to {last:.0f}")
        return found

    def line(self) -> str:
        first, last = self.thirds(1)
        return f"  {self.name:24} {first / 1024:7.1f} MB {last / 1024:7.1f} MB"
