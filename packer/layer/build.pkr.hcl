# use_proxy stays at its default: false makes Packer 1.6.6 panic with communicator "none", and the proxy is idle here.
build {
  name    = "layer"
  sources = ["source.null.layer"]

  provisioner "ansible" {
    playbook_file  = var.playbook
    inventory_file = var.inventory
    extra_arguments = [
      "--extra-vars", "@${var.vars_file}",
      "--limit", var.role,
    ]
  }

  post-processor "manifest" {
    output      = var.manifest
    custom_data = { role = var.role }
  }
}
