"""Parts of ``credit bench``: replicas in one pass, and spiking networks."""
