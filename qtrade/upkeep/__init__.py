"""What keeps a project and its machine in order, over bake and flash: doctor, status, collection of old state, migration of manifests."""
