"""torch modules: pooling, heads, losses, and the loaders that build each backbone."""
