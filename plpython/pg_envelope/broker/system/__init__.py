"""Uses the operating system: private files, a clock that counts sleep, memory that stays in memory."""
