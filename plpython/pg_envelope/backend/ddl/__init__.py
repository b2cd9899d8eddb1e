"""DDL on a protected table's own name: the base table takes the name of its view for the time of one command."""
