"""Networks, images to features."""
