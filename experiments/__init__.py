"""Command lines over posjax: run, train, evaluate, report, generate. Each takes a config file and typed overrides."""
