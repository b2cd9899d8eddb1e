"""Shows a database's encryption on one local page."""
