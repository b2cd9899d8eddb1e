"""Names the suites of FORMAT.md section 1, for who need not load their ciphers."""

from __future__ import annotations

SUITE_NAMES = {
    1: "AES-256-GCM",
    2: "XAES-256-GCM",
    3: "ChaCha20-Poly1305",
    4: "AES-256-SIV",
    5: "AES-256-GCM-SIV",
}
