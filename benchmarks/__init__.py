"""How fast this project is, measured beside its peers and the codec's own limit.

``make bench`` measures everything and writes ``docs/benchmarks/``; ``make bench-quick`` measures
the main ratios in under three minutes and prints them.
"""
