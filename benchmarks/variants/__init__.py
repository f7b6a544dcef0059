"""The programs that are compared: each makes 64 encoded images of a photograph.

A module here is loaded by name in a process of its own, some of them in the environment of the
peers, and holds ``make_variant(options)``. So a module imports nothing of the others' libraries.
"""
