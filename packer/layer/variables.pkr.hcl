variable "role" {
  type        = string
  description = "Layer to make: the name of its role and playbook."
  validation {
    condition     = length(var.role) > 1 && lower(var.role) == var.role
    error_message = "The role is a lower-case name."
  }
}

variable "root" {
  type        = string
  description = "Folder with the stacked root that the role changes."
  validation {
    condition     = substr(var.root, 0, 1) == "/"
    error_message = "The root is an absolute path."
  }
}

variable "playbook" {
  type        = string
  description = "Ansible playbook of the layer."
}

variable "inventory" {
  type        = string
  description = "Ansible inventory that names the root as a chroot."
}

variable "vars_file" {
  type        = string
  description = "JSON file with the layer's variables."
}

variable "manifest" {
  type        = string
  description = "Where Packer writes its result."
}

variable "proxy_key" {
  type        = string
  description = "Private key of the SSH proxy that Packer starts and nobody uses."
}

variable "proxy_public" {
  type        = string
  description = "Its public key."
}
