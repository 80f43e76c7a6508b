# For Packer 1.7 and later, which install plugins: `packer init packer/plugins.pkr.hcl`. Older ones bundle them, do not know
# this block, and therefore never load this file. 1.1.5 takes more memory (hashicorp/packer-plugin-ansible#265).
packer {
  required_plugins {
    ansible = {
      version = "= 1.1.4"
      source  = "github.com/hashicorp/ansible"
    }
  }
}
