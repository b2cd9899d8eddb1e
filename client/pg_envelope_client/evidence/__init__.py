"""Makes the report: facts that anybody can see by a statement, and what they show of each clause of a framework."""
