"""What is watched while a run trains: finite numbers, dead layers, large losses, diagnostics, signals."""
