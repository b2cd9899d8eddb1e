"""The benchmark: pg_envelope beside a plain table and its peers, in one run. `python -m bench --help`."""
