"""Baking: networks rewritten for one image size, with all kernels and embeddings fixed."""
