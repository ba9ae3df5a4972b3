"""Plans of the papers, as YAML."""
