"""Networks: layers, backbones, heads, and their cost. Nothing here depends on data or training."""
