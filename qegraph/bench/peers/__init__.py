"""Other runtimes for the same float module, each quantized by its own documented recipe on the same calibration data.

Their packages are the optional extra `peers`; nothing of them is imported before one is built. What they say while they
convert is not for our output, and is dropped.
"""
