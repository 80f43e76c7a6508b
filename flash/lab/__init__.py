"""The lab: virtual bare metal with disks, a NIC that netboots and a BMC, on any Linux machine."""
