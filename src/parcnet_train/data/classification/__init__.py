"""Image classification data: folders of images and Hugging Face data sets, one class per image."""
