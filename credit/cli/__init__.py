"""The commands `credit-train` (Hydra) and `credit` (argparse). Slow imports are deferred until they are needed."""
