"""The seal: what no image may hold. Fatal, on the finished layers, by layer and path and never by value."""
