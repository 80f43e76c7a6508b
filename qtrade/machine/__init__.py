"""QEMU machines: the boot test of bake and the lab of flash use them."""
