"""Layer-wise feedback propagation (paper 2): relevance of connections instead of gradients."""
