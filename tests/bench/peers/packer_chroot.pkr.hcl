variable "playbook" {
  type        = string
  description = "Ansible playbook of all roles."
}

variable "inventory" {
  type        = string
  description = "Ansible inventory that names the root as a chroot."
}

source "null" "chroot" {
  communicator = "none"
}

build {
  sources = ["source.null.chroot"]

  provisioner "ansible" {
    playbook_file      = var.playbook
    inventory_file     = var.inventory
    skip_version_check = true
    ansible_env_vars   = ["TMPDIR=/tmp"]
  }
}
