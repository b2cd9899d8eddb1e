"""What the operating system gives: private files, a clock that counts sleep, memory that stays in memory."""
