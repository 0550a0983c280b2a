"""The engine: trace a module into a plan, run its forward pass and its backward pass. Independent of the rules."""
