"""Spark SQL for analysts: documented views over what the flow wrote."""
