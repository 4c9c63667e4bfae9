"""MLflow's project backend `azure-batch`: `mlflow run . --backend azure-batch`."""
