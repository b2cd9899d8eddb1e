"""The commands, one module per group; each imports what is slow to load only when it runs."""
