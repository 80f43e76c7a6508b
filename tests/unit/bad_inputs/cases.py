"""Bad inputs: what is spoiled, what is typed, the class of the error, and where the fault lies."""

from tests.unit.bad_inputs.commands import ENVIRONMENTS, FLAGS
from tests.unit.bad_inputs.manifests import MANIFESTS
from tests.unit.bad_inputs.stores import KEYS, STORES, TOOLS

GROUPS = {
    "Manifests": MANIFESTS,
    "The command line": FLAGS,
    "Environment variables": ENVIRONMENTS,
    "Images and the store": STORES,
    "Keys and secrets": KEYS,
    "Programs": TOOLS,
}
CASES = [case for group in GROUPS.values() for case in group]
