"""Typed models of the files that people write and of the image document. Parsed at the edge, trusted inside."""

from qtrade.manifest.drift import DriftIgnore, DriftIgnores, DriftKind, DriftPolicy
from qtrade.manifest.environment import Environment, Monitoring
from qtrade.manifest.gates import GateKind, Gates, HardGate, SoftGate
from qtrade.manifest.host import Host
from qtrade.manifest.identity import Identity
from qtrade.manifest.image import Image, ImageLayer
from qtrade.manifest.inputs import RoleInputs
from qtrade.manifest.lent import lend_arguments
from qtrade.manifest.load import load_manifest, load_text
from qtrade.manifest.metrics import METRICS, Metric, MetricFacts
from qtrade.manifest.monitoring import Dashboard, MetricNames, Monitor, Monitors
from qtrade.manifest.named import load_environment_named, load_recipe_named
from qtrade.manifest.recipe import Recipe, RecipeLayer
from qtrade.manifest.secrets import KvAccess, SecretPlaces
from qtrade.manifest.waivers import Gate, Waiver, Waivers

__all__ = [
    "METRICS",
    "Dashboard",
    "DriftIgnore",
    "DriftIgnores",
    "DriftKind",
    "DriftPolicy",
    "Environment",
    "Gate",
    "GateKind",
    "Gates",
    "HardGate",
    "Host",
    "Identity",
    "Image",
    "ImageLayer",
    "KvAccess",
    "Metric",
    "MetricFacts",
    "MetricNames",
    "Monitor",
    "Monitoring",
    "Monitors",
    "Recipe",
    "RecipeLayer",
    "RoleInputs",
    "SecretPlaces",
    "SoftGate",
    "Waiver",
    "Waivers",
    "lend_arguments",
    "load_environment_named",
    "load_manifest",
    "load_recipe_named",
    "load_text",
]
