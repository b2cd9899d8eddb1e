"""What `pg-envelope init` sets up: KEK, policy and login in Vault or OpenBao, and the broker's configuration."""
