"""Django over protected tables: a database backend, fields, operations of migrations, hashes and files.

The modules of this folder are the only ones that know Django.
"""
