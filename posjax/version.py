"""The version, in one place that setup.cfg reads without importing jax."""

__version__ = "0.1.0"
