"""The command line of agave-validator: options by minor version, help and errors as clap 2 writes them.

Written from Agave's CHANGELOG and validator/src/commands/run/args.rs, apart from the role's table, so that the two check each other.
"""

import os
import sys

# (long, value name or None for a flag, what applies): short=-x, many, hidden, since=minor, gone=first minor without it, old=deprecated
# from that minor on (taken with a warning, hidden in the help), needs=other option.
RUN = (
    ("identity", "KEYPAIR", {"short": "-i"}),
    ("ledger", "DIR", {"short": "-l"}),
    ("log", "FILE", {"short": "-o"}),
    ("entrypoint", "HOST:PORT", {"short": "-n", "many": True}),
    ("accounts", "PATHS", {"many": True}),
    ("snapshots", "DIR", {}),
    ("tower", "DIR", {}),
    ("init-complete-file", "FILE", {}),
    ("vote-account", "ADDRESS", {"needs": "identity"}),
    ("authorized-voter", "KEYPAIR", {"many": True, "needs": "vote-account"}),
    ("require-tower", None, {}),
    ("no-voting", None, {}),
    ("restricted-repair-only-mode", None, {}),
    ("rpc-port", "PORT", {}),
    ("rpc-bind-address", "HOST", {}),
    ("private-rpc", None, {}),
    ("full-rpc-api", None, {}),
    ("only-known-rpc", None, {}),
    ("enable-rpc-transaction-history", None, {}),
    ("health-check-slot-distance", "SLOT_DISTANCE", {}),
    ("public-rpc-address", "HOST:PORT", {}),
    ("bind-address", "HOST", {"many": True}),
    ("gossip-port", "PORT", {}),
    ("dynamic-port-range", "MIN_PORT-MAX_PORT", {}),
    ("known-validator", "VALIDATOR IDENTITY", {"many": True}),
    ("expected-genesis-hash", "HASH", {}),
    ("expected-shred-version", "VERSION", {}),
    ("no-snapshot-fetch", None, {}),
    ("no-genesis-fetch", None, {}),
    ("maximum-local-snapshot-age", "NUMBER_OF_SLOTS", {}),
    ("minimal-snapshot-download-speed", "MINIMAL_SNAPSHOT_DOWNLOAD_SPEED", {}),
    ("maximum-snapshot-download-abort", "MAXIMUM_SNAPSHOT_DOWNLOAD_ABORT", {}),
    ("no-snapshots", None, {}),
    ("snapshot-interval-slots", "NUMBER", {}),
    ("full-snapshot-interval-slots", "NUMBER", {}),
    ("use-snapshot-archives-at-startup", "use_snapshot_archives_at_startup", {}),
    ("wal-recovery-mode", "MODE", {}),
    ("account-index", "INDEX", {"many": True}),
    ("geyser-plugin-config", "FILE", {"many": True}),
    ("geyser-plugin-always-enabled", None, {}),
    ("limit-ledger-size", "SHRED_COUNT", {"old": "4.3"}),
    ("limit-blockstore-size", "SHRED_COUNT", {"since": "4.3"}),
    ("enable-banking-trace", "BYTES", {}),
    ("disable-banking-trace", None, {"old": "4.3"}),
    ("experimental-config-file", "PATH", {"since": "4.3"}),
    ("tpu-connection-pool-size", "VALUE", {"gone": "4.3"}),
    ("no-xdp", None, {"since": "4.2"}),
    ("xdp-interface", "INTERFACE", {"since": "4.1"}),
    ("xdp-cpu-cores", "CPU_LIST", {"since": "4.1"}),
    ("xdp-zero-copy", None, {"since": "4.1"}),
    ("experimental-retransmit-xdp-interface", "INTERFACE", {"hidden": True, "old": "4.1"}),
    ("experimental-retransmit-xdp-cpu-cores", "CPU_LIST", {"hidden": True, "old": "4.1"}),
    ("experimental-retransmit-xdp-zero-copy", None, {"hidden": True, "old": "4.1"}),
    ("poh-pinned-cpu-core", "CPU_CORE_INDEX", {"since": "4.2"}),
    ("experimental-poh-pinned-cpu-core", "CPU_CORE_INDEX", {"hidden": True, "old": "4.2"}),
    ("accounts-db-write-cache-limit", "BYTES", {"since": "4.2"}),
    ("accounts-db-cache-limit-mb", "MEGABYTES", {"old": "4.2"}),
    ("accounts-db-access-storages-method", "METHOD", {"old": "4.2"}),
    ("accounts-index-limit", "VALUE", {"since": "4.0"}),
    ("no-accounts-db-snapshots-direct-io", None, {"since": "4.0"}),
    ("accounts-hash-cache-path", "PATH", {"gone": "4.0"}),
    ("cuda", None, {"gone": "4.0"}),
    ("tpu-coalesce-ms", "MILLISECS", {"gone": "4.0"}),
    ("tpu-enable-udp", None, {"gone": "4.0"}),
    ("tpu-disable-quic", None, {"gone": "4.0"}),
    ("allow-private-addr", None, {"hidden": True}),
    ("no-port-check", None, {"hidden": True}),
    ("no-os-network-limits-test", None, {"hidden": True}),
)
EXIT = (
    ("force", None, {"short": "-f"}),
    ("min-idle-time", "MINUTES", {}),
    ("max-delinquent-stake", "PERCENT", {}),
    ("skip-new-snapshot-check", None, {}),
    ("skip-health-check", None, {}),
    ("no-wait-for-exit", None, {}),
    ("wait-for-exit", None, {"gone": "4.0"}),
    ("monitor", None, {"short": "-m", "gone": "4.0"}),
)
SET_IDENTITY = (
    ("require-tower", None, {}),
    ("do-not-require-vote-history", None, {"since": "4.3"}),
)
WINDOW = (
    ("min-idle-time", "MINUTES", {}),
    ("identity", "ADDRESS", {}),
    ("max-delinquent-stake", "PERCENT", {}),
    ("skip-new-snapshot-check", None, {}),
    ("skip-health-check", None, {}),
)
COMMANDS = {
    "exit": ("Send an exit request to the validator", EXIT),
    "contact-info": ("Display the validator's contact info", ()),
    "monitor": ("Monitor the validator", ()),
    "plugin": ("Manage and view geyser plugins", ()),
    "set-identity": ("Set the validator identity", SET_IDENTITY),
    "authorized-voter": ("Adjust the validator authorized voters", ()),
    "wait-for-restart-window": ("Monitor the validator for a good time to restart", WINDOW),
}
# Commands that are nothing without one of these behind them.
SUBCOMMANDS = {"plugin": ("list",), "authorized-voter": ("add", "remove-all")}
# Commands that may have a keypair file behind them; without one they read stdin.
TAKE_KEYPAIR = ("set-identity", "authorized-voter add")
USAGE = "    agave-validator [FLAGS] [OPTIONS] --ledger <DIR>"


def number(minor):
    return tuple(int(part) for part in minor.split("."))


def known(options, minor):
    """Return the options of a minor, by long and short name."""
    found = {}
    for name, value, rules in options:
        if number(rules.get("since", "0")) <= number(minor) < number(rules.get("gone", "99")):
            for word in (f"--{name}", rules.get("short")):
                found[word] = (name, value, rules)
    found.pop(None, None)
    return found


def end(message):
    """End as clap 2 does."""
    sys.exit(f"error: {message}\n\nUSAGE:\n{USAGE}\n\nFor more information try --help")


def parse(words, version):
    """Return (options, command, options of the command). `--help` and `--version` print and end."""
    minor = ".".join(version.split(".")[:2])
    options, rest = read(words, known(RUN, minor), minor)
    if rest[:1] in (["--help"], ["-h"], ["-V"], ["--version"]):
        show(rest[0], version, minor)
    if not rest:
        return options, "", {}
    if rest[0] not in COMMANDS:
        end(f"Found argument '{rest[0]}' which wasn't expected, or isn't valid in this context")
    more, left = read(rest[1:], known(COMMANDS[rest[0]][1], minor), minor)
    if left[:1] and left[0] in SUBCOMMANDS.get(rest[0], ()):
        rest[0] += f" {left.pop(0)}"
    elif rest[0] in SUBCOMMANDS and not left:
        end(f"'agave-validator {rest[0]}' requires a subcommand, but one was not provided")
    if left and rest[0] in TAKE_KEYPAIR:
        more["KEYPAIR"] = left.pop(0)
    if left:
        end(f"Found argument '{left[0]}' which wasn't expected, or isn't valid in this context")
    return options, rest[0], more


def read(words, names, minor):
    """Return the options and the words from the first that is none."""
    found = {}
    words = list(words)
    while words and words[0].startswith("-") and words[0] not in ("--help", "-h", "--version", "-V"):
        word, equals, value = words.pop(0).partition("=")
        if word not in names:
            end(f"Found argument '{word}' which wasn't expected, or isn't valid in this context")
        name, placeholder, rules = names[word]
        shown = f"--{name} <{placeholder}>" if placeholder else f"--{name}"
        if name in found and not rules.get("many"):
            end(f"The argument '{shown}' was provided more than once, but cannot be used multiple times")
        if number(rules.get("old", "99")) <= number(minor):
            print(f"warning: --{name} is deprecated", file=sys.stderr)
        if equals and not placeholder:
            end(f"The argument '{shown}' isn't expected to have a value")
        found.setdefault(name, []).append((value if equals else take_value(words, shown)) if placeholder else True)
    check_needs(found, names)
    return {name: values if names[f"--{name}"][2].get("many") else values[0] for name, values in found.items()}, words


def take_value(words, shown):
    """Take the word that is an option's value; the limits of the ledger work without one, too."""
    if words and not words[0].startswith("--"):
        return words.pop(0)
    if not shown.startswith("--limit-"):
        end(f"The argument '{shown}' requires a value but none was supplied")
    return ""


def check_needs(found, names):
    for name in found:
        needed = names[f"--{name}"][2].get("needs")
        if needed and needed not in found:
            end(f"The following required arguments were not provided:\n    --{needed} <{names[f'--{needed}'][1]}>")


def show(word, version, minor):
    """Print version or help, then end."""
    banner = f"agave-validator {version} (src:00000000; feat:0, client:Agave)"
    if word in ("-V", "--version"):
        print(banner)
        sys.exit(0)
    is_forced = "SOLANA_NO_HIDDEN_CLI_ARGS" in os.environ
    flags, options = [], []
    for name, value, rules in sorted(RUN):
        is_hidden = rules.get("hidden") or number(rules.get("old", "99")) <= number(minor)
        if f"--{name}" in known(RUN, minor) and (is_forced or not is_hidden):
            short = f"{rules['short']}, " if "short" in rules else "    "
            (options if value else flags).append(f"    {short}--{name}" + (f" <{value}>" if value else ""))
    commands = [f"    {name:<14}{about}" for name, (about, _) in sorted(COMMANDS.items())]
    parts = {"USAGE": [USAGE, f"{USAGE} <SUBCOMMAND>"], "FLAGS": flags, "OPTIONS": options, "SUBCOMMANDS": commands}
    sections = [f"{name}:\n" + "\n".join(lines) for name, lines in parts.items()]
    print("\n\n".join([f"{banner}\nStand-in of the validator", *sections]))
    sys.exit(0)
