"""Data sets, their uint8 cache, and the streams made of them."""
