"""Features: what a model sees of a market. The catalogue names them, the kernel computes them."""
