"""Benchmarks behind `hola bench`: each gives one report of one form."""
