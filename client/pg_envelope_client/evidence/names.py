"""Names the frameworks. It is apart because the command line loads it at each start."""

from __future__ import annotations

from enum import StrEnum


class FrameworkName(StrEnum):
    """A framework: the file with its clauses has its name."""

    GDPR = "gdpr"
    HIPAA = "hipaa"
    PCI = "pci"
    SOC2 = "soc2"
    NIST = "nist"
    DPDPA = "dpdpa"
    AI_ACT = "ai-act"
    FEDRAMP = "fedramp"
    ALL = "all"
