"""Reaches the KMSs: calls with a deadline, a breaker, and one provider for each kind of KMS."""
