"""The code that runs inside a PostgreSQL backend. SQL functions call the methods of `session.Session`, which lives in
GD.
"""
