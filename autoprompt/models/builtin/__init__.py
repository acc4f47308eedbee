"""The embedded default model: its weights, its card, and the recipe and texts that made it."""
