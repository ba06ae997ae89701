"""Kernels: arrays in, numbers out; numpy and numba only."""
