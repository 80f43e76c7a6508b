#!/bin/sh
# Every start is on the unstaked identity, and nothing in this image takes a staked one: that would need its tower, and proof that the
# old holder stopped.
set -eu
cd /var/lib/agave
if [ ! -e unstaked-identity.json ]; then
    /opt/agave/current/bin/solana-keygen new --no-bip39-passphrase --silent --outfile unstaked-identity.json
fi
ln -sfn unstaked-identity.json identity.json
