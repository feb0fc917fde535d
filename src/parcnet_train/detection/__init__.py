"""Box arithmetic of SSD (arXiv 1512.02325): pure functions of tensors, no modules."""
