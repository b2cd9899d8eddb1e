"""What is done to keys over the years: rotation, moves, suspension, erasure, schedules, backups, environments."""
