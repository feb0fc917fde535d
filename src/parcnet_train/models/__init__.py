"""Networks: layers, backbones, heads, and what they cost. Nothing here knows data or training."""
