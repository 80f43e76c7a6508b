"""The commands of agave-validator that talk to a running one, through its admin socket."""

import json
import socket
import sys
import time
from pathlib import Path

import voting


def ask(ledger, method, **parameters):
    """Return the answer of the admin socket; an error of it ends the command."""
    with socket.socket(socket.AF_UNIX) as admin:
        try:
            admin.connect(str(ledger / "admin.rpc"))
        except OSError as error:
            sys.exit(f"{method} request failed: {error}")
        admin.sendall(json.dumps({"method": method, **parameters}).encode() + b"\n")
        answer = json.loads(admin.makefile().readline())
    if "error" in answer:
        sys.exit(f"{method} request failed: {answer['error']}")
    return answer["result"]


def monitor(ledger):
    """The `monitor` command: tell the slot until the validator ends or somebody stops this."""
    while True:
        print(f"Processed Slot: {ask(ledger, 'startProgress')}", flush=True)
        time.sleep(1)


def list_plugins(ledger):
    """The `plugin list` command."""
    plugins = ask(ledger, "listPlugins")
    print("Currently the following plugins are loaded:" if plugins else "There are currently no plugins loaded")
    for number, name in enumerate(plugins, 1):
        print(f"  {number}) {name}")


def ask_exit(ledger, *, is_awaited):
    """The `exit` command: ask, then wait for the end of the process, however long it takes."""
    process = ask(ledger, "exit")
    print("Exit request sent", flush=True)
    while is_awaited and is_alive(process):
        time.sleep(0.2)


def is_alive(process):
    """Say whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def take_keypair(path):
    """Return the keypair of a file, or of stdin without one."""
    try:
        return voting.read_keypair(Path(path).read_text() if path else sys.stdin.read())
    except (OSError, ValueError) as error:
        sys.exit(f"unable to read the keypair: {error}")


def set_identity(ledger, more):
    """The `set-identity` command. Before 4.3 there is no vote history to require."""
    keypair = take_keypair(more.get("KEYPAIR"))
    print(f"New validator identity: {voting.address_of(keypair)}", flush=True)
    needs = {"require_tower": "require-tower" in more, "require_history": "do-not-require-vote-history" not in more}
    ask(ledger, "setIdentity", keypair=list(keypair), **needs)


def add_voter(ledger, more):
    """The `authorized-voter add` command."""
    keypair = take_keypair(more.get("KEYPAIR"))
    print(f"Adding authorized voter: {voting.address_of(keypair)}", flush=True)
    ask(ledger, "addAuthorizedVoter", keypair=list(keypair))


def remove_voters(ledger):
    """The `authorized-voter remove-all` command."""
    ask(ledger, "removeAllAuthorizedVoters")
    print("All authorized voters removed")


def carry_out(ledger, command, more):
    """Do a command; `more` are its own options."""
    if command == "exit":
        ask_exit(ledger, is_awaited="no-wait-for-exit" not in more)
    elif command == "contact-info":
        print(ask(ledger, "contactInfo"))
    elif command == "monitor":
        monitor(ledger)
    elif command == "plugin list":
        list_plugins(ledger)
    elif command == "set-identity":
        set_identity(ledger, more)
    elif command == "authorized-voter add":
        add_voter(ledger, more)
    elif command == "authorized-voter remove-all":
        remove_voters(ledger)
    elif command == "wait-for-restart-window":
        ask(ledger, "contactInfo")
        # These chains have no leader schedule: any time is good, unless this file is there.
        while (ledger / "standin-leads").exists():
            time.sleep(0.2)
        print("Ready to restart")
