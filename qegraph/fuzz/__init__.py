"""Random quantized programs against what they compute: `qegraph fuzz`."""
