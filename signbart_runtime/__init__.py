"""What a checkpoint or an artifact does once it exists: label, evaluate, serve, time, compare.

Programs take `open_model` from `bridge`.
"""
