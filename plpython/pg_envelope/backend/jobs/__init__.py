"""Re-encryption as jobs: shares of a table, walked in committed batches, and the receipt at their end."""
