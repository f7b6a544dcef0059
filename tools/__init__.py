"""Servers that the tests, the demo and the benchmarks start; not part of the installed package."""
