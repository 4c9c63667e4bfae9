"""MLflow's server for a team: accounts, roles with the smallest rights that work, no default."""
