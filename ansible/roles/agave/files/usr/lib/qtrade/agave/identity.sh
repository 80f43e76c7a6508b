#!/bin/sh
# Every start is on the unstaked identity. Only `qtrade identity take` gives a staked one to the validator that runs, with its tower and proof
# that the old holder stopped; the next start is unstaked again.
set -eu
cd /var/lib/agave
if [ ! -e unstaked-identity.json ]; then
    /opt/agave/current/bin/solana-keygen new --no-bip39-passphrase --silent --outfile unstaked-identity.json
fi
ln -sfn unstaked-identity.json identity.json
