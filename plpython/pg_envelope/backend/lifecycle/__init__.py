"""Does what keys need over the years: rotation, moves, suspension, erasure, schedules, backups, environments."""
