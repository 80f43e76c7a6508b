"""Host and image to healthy host."""
