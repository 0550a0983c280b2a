"""Rules whose units have states that settle: dual propagation, equilibrium propagation, contrastive Hebbian learning."""
