"""The files that people write, by kind: where they are, and the model that reads them."""

from dataclasses import dataclass

from pydantic import BaseModel

from bake.exposure import UnitPolicy
from bake.ids import Ids
from bake.seal.allow import SealPolicy
from qtrade.manifest import Dashboard, DriftIgnores, Environment, Host, Identity, MetricNames, Monitors, Recipe, Waivers
from qtrade.manifest.formats import newest_version


@dataclass(frozen=True)
class Format:
    """A kind of file: `glob` from the project's folder."""

    name: str
    glob: str
    model: type[BaseModel]


FORMATS = (
    Format("recipe", "manifests/images/*.yaml", Recipe),
    Format("host", "manifests/hosts/*.yaml", Host),
    Format("environment", "manifests/environments/*.yaml", Environment),
    Format("identity", "manifests/identities/*.yaml", Identity),
    Format("waivers", "manifests/waivers/*.yaml", Waivers),
    Format("drift ignores", "manifests/drift/*.yaml", DriftIgnores),
    Format("monitors", "manifests/monitoring/monitors/*.yaml", Monitors),
    Format("dashboard", "manifests/monitoring/dashboards/*.yaml", Dashboard),
    Format("metrics", "manifests/monitoring/metrics.yaml", MetricNames),
    Format("ids", "manifests/ids.yaml", Ids),
    Format("seal", "manifests/seal.yaml", SealPolicy),
    Format("units", "manifests/units.yaml", UnitPolicy),
)
NEWEST = {one.name: newest_version(one.model) for one in FORMATS}
