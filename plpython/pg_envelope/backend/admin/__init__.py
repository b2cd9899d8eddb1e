"""The routines that DBAs call, one module for each theme. Each SQL routine has a method of its name here.

A session imports a theme at the first call of one of its routines: a session that only reads imports none.
"""
