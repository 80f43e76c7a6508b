#!/bin/sh
# Every start is on the unstaked identity: taking the staked one is a command of its own, gated on the tower.
set -eu
cd /var/lib/agave
if [ ! -e unstaked-identity.json ]; then
    /opt/agave/current/bin/solana-keygen new --no-bip39-passphrase --silent --outfile unstaked-identity.json
fi
ln -sfn unstaked-identity.json identity.json
