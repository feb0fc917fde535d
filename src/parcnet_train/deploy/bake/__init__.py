"""Networks with kernels and embeddings fixed for one image size, ready for export."""
