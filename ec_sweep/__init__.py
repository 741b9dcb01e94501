"""Hyperparameter sweeps with experiment tracking for neural networks on protein sequences."""

__version__ = "0.1.0"
