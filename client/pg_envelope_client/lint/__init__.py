"""Finds statements that would decrypt a whole table, and says what to write in their place. One module knows pglast."""
