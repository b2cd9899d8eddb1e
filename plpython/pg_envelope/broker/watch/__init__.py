"""What the broker tells about itself: audit log and metrics."""
