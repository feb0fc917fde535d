"""Image folders and Hugging Face data sets with one class per image."""
