"""The node configs that ship with the product: plain Crossbar JSON."""
