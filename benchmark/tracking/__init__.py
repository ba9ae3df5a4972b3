"""The one owner of MLflow."""
