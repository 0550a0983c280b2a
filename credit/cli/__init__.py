"""The commands `credit-train` (Hydra) and `credit` (argparse). Nothing heavy is imported before it is needed."""
