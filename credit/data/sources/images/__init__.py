"""Sets of images: folders, ImageNet32, the sets that torchvision reads, and how files are decoded."""
