variable "playbook" {
  type        = string
  description = "Ansible playbook of all roles."
}

variable "disk" {
  type        = string
  description = "Raw disk of the base: one ext4 file system."
}

variable "key" {
  type        = string
  description = "SSH key that the base lets in."
}

variable "out" {
  type        = string
  description = "Folder for the result; must not exist."
}

variable "qemu" {
  type        = string
  description = "QEMU program."
}

variable "kernel" {
  type        = string
  description = "Kernel of the base."
}

variable "initrd" {
  type        = string
  description = "Initial RAM filesystem of the base."
}

variable "accelerator" {
  type        = string
  description = "QEMU accelerator: none emulates."
  default     = "none"
}

source "qemu" "golden" {
  accelerator          = var.accelerator
  qemu_binary          = var.qemu
  disk_image           = true
  iso_url              = var.disk
  iso_checksum         = "none"
  format               = "qcow2"
  disk_interface       = "virtio"
  net_device           = "virtio-net"
  headless             = true
  memory               = 2048
  cpus                 = 2
  boot_wait            = "0s"
  output_directory     = var.out
  vm_name              = "golden.qcow2"
  ssh_username         = "root"
  ssh_private_key_file = var.key
  ssh_timeout          = "5m"
  shutdown_command     = "systemctl poweroff"
  qemuargs = [
    ["-cpu", "max"],
    ["-kernel", var.kernel],
    ["-initrd", var.initrd],
    ["-append", "root=/dev/vda rw console=ttyS0 quiet mitigations=off audit=0"],
  ]
}

build {
  sources = ["source.qemu.golden"]

  provisioner "ansible" {
    playbook_file      = var.playbook
    user               = "root"
    use_proxy          = false
    skip_version_check = true
    ansible_env_vars   = ["TMPDIR=/tmp", "ANSIBLE_HOST_KEY_CHECKING=False"]
  }
}
