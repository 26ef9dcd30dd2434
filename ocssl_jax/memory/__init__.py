"""What is kept of the stream."""
