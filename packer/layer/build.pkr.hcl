# use_proxy stays at its default: false makes Packer 1.6.6 panic with communicator "none", and the proxy is idle here.
build {
  name    = "layer"
  sources = ["source.null.layer"]

  provisioner "ansible" {
    playbook_file  = var.playbook
    inventory_file = var.inventory
    # Of the idle proxy: else Packer makes RSA keys for it.
    ssh_host_key_file       = var.proxy_key
    ssh_authorized_key_file = var.proxy_public
    ansible_env_vars        = ["TMPDIR=/tmp"] # what runs in the root has no other
    skip_version_check      = true            # else Packer starts ansible-playbook twice more, only to ask its version
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
