# Nothing is started: the root is a folder, and Ansible's chroot connection does the rest.
source "null" "layer" {
  communicator = "none"
}
