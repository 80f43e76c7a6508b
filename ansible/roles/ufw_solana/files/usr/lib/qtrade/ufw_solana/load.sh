#!/bin/sh
# Load the host's allow list. One that this very program found good before, for these very interfaces, is loaded as rendered, without Python.
own=/usr/lib/qtrade/ufw_solana/allow_list.py good=/var/lib/qtrade-firewall
if cat "$own" /usr/share/qtrade/interfaces.d/*.json 2>/dev/null | cmp -s - $good/made-by && cmp -s /run/qtrade/state/config/current/ufw/allow.rules $good/allow.rules; then
    iptables-restore --wait 10 --noflush $good/v4.rules && ip6tables-restore --wait 10 --noflush $good/v6.rules && exit 0
fi
exec python3 -I -S -B "$own"
