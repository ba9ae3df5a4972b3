"""The engine: plan, stages, scoring, protocols, statistics, tracking."""
