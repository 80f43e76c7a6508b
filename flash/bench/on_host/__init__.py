"""What runs on a host for a measurement: sent to its Python over SSH, standard library only, as its operator, nothing left behind."""
