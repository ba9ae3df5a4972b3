"""Methods trained on synthetic anomalies."""
