"""Networks of spiking units."""
