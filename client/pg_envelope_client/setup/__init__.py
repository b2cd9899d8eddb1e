"""Sets up what the broker needs: KEK, policy and login in Vault or OpenBao, and the broker's configuration."""
