"""The Redfish documents that the lab's BMC shows: pure functions of the host's facts and the board's state."""

from dataclasses import dataclass

from flash.drivers import BootSource, OverrideEnabled, PowerState
from flash.lab.boot import BoardState
from flash.lab.facts import LabFacts
from qtrade.machine.spec import Firmware

ROOT = "/redfish/v1"
SESSIONS = f"{ROOT}/SessionService/Sessions"
MANAGER = f"{ROOT}/Managers/bmc"
MEDIUM = f"{MANAGER}/VirtualMedia/Cd"
CHASSIS = f"{ROOT}/Chassis/chassis"
INSERT_ACTION = f"{MEDIUM}/Actions/VirtualMedia.InsertMedia"
EJECT_ACTION = f"{MEDIUM}/Actions/VirtualMedia.EjectMedia"
RESET_TYPES = ("On", "ForceOff", "GracefulShutdown", "ForceRestart", "GracefulRestart", "PowerCycle")

Json = dict[str, object]


@dataclass(frozen=True)
class View:
    """What the documents are made of, at one moment."""

    facts: LabFacts
    state: BoardState
    power: PowerState
    fault: str | None = None


def system_path(facts: LabFacts) -> str:
    """Return where the one system is."""
    return f"{ROOT}/Systems/{facts.name}"


def reset_path(facts: LabFacts) -> str:
    """Return where resets are posted."""
    return f"{system_path(facts)}/Actions/ComputerSystem.Reset"


def boot_sources(facts: LabFacts) -> tuple[BootSource, ...]:
    """Return the override targets that the firmware knows."""
    usual = (BootSource.NONE, BootSource.HDD, BootSource.PXE, BootSource.CD)
    return (*usual, BootSource.UEFI_HTTP) if facts.firmware is Firmware.UEFI else usual


def boot_mode(facts: LabFacts) -> str:
    """Return the firmware's kind in Redfish's words."""
    return "UEFI" if facts.firmware is Firmware.UEFI else "Legacy"


def render_documents(view: View) -> dict[str, Json]:
    """Return every document by its path, without trailing slashes."""
    system = system_path(view.facts)
    nic, cpu = f"{system}/EthernetInterfaces/net0", f"{system}/Processors/cpu0"
    documents: dict[str, Json] = {
        ROOT: _root(view.facts),
        f"{ROOT}/Systems": _collection("ComputerSystem", "Systems", system),
        system: _system(view),
        f"{system}/EthernetInterfaces": _collection("EthernetInterface", "Interfaces", nic),
        nic: {"Id": "net0", "Name": "NIC", "MACAddress": view.facts.mac, "PermanentMACAddress": view.facts.mac},
        f"{system}/Processors": _collection("Processor", "Processors", cpu),
        cpu: {
            "Id": "cpu0",
            "Name": "Processor",
            "ProcessorType": "CPU",
            "ProcessorArchitecture": "x86",
            "InstructionSet": "x86-64",
            "TotalCores": view.facts.cpus,
            "TotalThreads": view.facts.cpus,
            "Status": {"State": "Enabled", "Health": "OK"},
        },
        f"{ROOT}/Managers": _collection("Manager", "Managers", MANAGER),
        MANAGER: _manager(system),
        f"{MANAGER}/VirtualMedia": _collection("VirtualMedia", "Virtual media", MEDIUM),
        MEDIUM: _medium(view.state),
        f"{ROOT}/Chassis": _collection("Chassis", "Chassis", CHASSIS),
        CHASSIS: {
            "Id": "chassis",
            "Name": "Chassis",
            "ChassisType": "RackMount",
            "Links": {"ComputerSystems": [_link(system)], "ManagedBy": [_link(MANAGER)]},
        },
        f"{ROOT}/SessionService": {
            "Id": "SessionService",
            "Name": "Sessions",
            "ServiceEnabled": True,
            "SessionTimeout": 1800,
            "Sessions": _link(SESSIONS),
        },
        SESSIONS: _collection("Session", "Sessions"),
    }
    return {path: {"@odata.id": path, **document} for path, document in documents.items()}


def error_document(message: str) -> Json:
    """Return the body of an answer that says no."""
    code = "Base.1.8.GeneralError"
    info = [{"MessageId": code, "Message": message, "Severity": "Critical"}]
    return {"error": {"code": code, "message": message, "@Message.ExtendedInfo": info}}


def _root(facts: LabFacts) -> Json:
    return {
        "@odata.type": "#ServiceRoot.v1_5_0.ServiceRoot",
        "Id": "RootService",
        "Name": "qtrade lab BMC",
        "RedfishVersion": "1.6.0",
        "UUID": facts.uuid,
        "Systems": _link(f"{ROOT}/Systems"),
        "Managers": _link(f"{ROOT}/Managers"),
        "Chassis": _link(f"{ROOT}/Chassis"),
        "SessionService": _link(f"{ROOT}/SessionService"),
        "Links": {"Sessions": _link(SESSIONS)},
    }


def _system(view: View) -> Json:
    facts, override = view.facts, view.state.override
    health = "Critical" if view.fault else "OK"
    is_on = view.power is PowerState.ON
    tap = view.state.tap
    return {
        "@odata.type": "#ComputerSystem.v1_10_0.ComputerSystem",
        "Id": facts.name,
        "Name": facts.name,
        "SystemType": "Physical",
        "Manufacturer": "qtrade",
        "Model": "lab",
        "SerialNumber": facts.name,
        "UUID": facts.uuid,
        "PowerState": view.power,
        "Status": {"State": "Enabled" if is_on else "Disabled", "Health": health},
        "MemorySummary": {"TotalSystemMemoryGiB": facts.memory_mib / 1024},
        "ProcessorSummary": {"Count": facts.cpus},
        "Boot": {
            "BootSourceOverrideEnabled": override.enabled,
            "BootSourceOverrideEnabled@Redfish.AllowableValues": list(OverrideEnabled),
            "BootSourceOverrideTarget": override.target,
            "BootSourceOverrideTarget@Redfish.AllowableValues": list(boot_sources(facts)),
            "BootSourceOverrideMode": boot_mode(facts),
            "BootSourceOverrideMode@Redfish.AllowableValues": [boot_mode(facts)],
            **_http_boot(facts, override.http_boot_uri),
        },
        "EthernetInterfaces": _link(f"{system_path(facts)}/EthernetInterfaces"),
        "Processors": _link(f"{system_path(facts)}/Processors"),
        "Links": {"ManagedBy": [_link(MANAGER)], "Chassis": [_link(CHASSIS)]},
        "Actions": {
            "#ComputerSystem.Reset": {
                "target": reset_path(facts),
                "ResetType@Redfish.AllowableValues": list(RESET_TYPES),
            }
        },
        "Oem": {
            "Qtrade": {
                "LastFault": view.fault,
                "Tap": {"Ifname": tap.ifname, "Netns": tap.netns} if tap else None,
            }
        },
    }


def _http_boot(facts: LabFacts, uri: str | None) -> dict[str, str | None]:
    return {"HttpBootUri": uri} if facts.firmware is Firmware.UEFI else {}


def _manager(system: str) -> Json:
    return {
        "@odata.type": "#Manager.v1_5_0.Manager",
        "Id": "bmc",
        "Name": "BMC",
        "ManagerType": "BMC",
        "PowerState": PowerState.ON,
        "Status": {"State": "Enabled", "Health": "OK"},
        "VirtualMedia": _link(f"{MANAGER}/VirtualMedia"),
        "Links": {"ManagerForServers": [_link(system)], "ManagerForChassis": [_link(CHASSIS)]},
    }


def _medium(state: BoardState) -> Json:
    url = state.medium_url
    return {
        "@odata.type": "#VirtualMedia.v1_3_0.VirtualMedia",
        "Id": "Cd",
        "Name": "Virtual CD",
        "MediaTypes": ["CD", "DVD"],
        "Image": url,
        "ImageName": url.rsplit("/", 1)[-1] if url else None,
        "Inserted": url is not None,
        "WriteProtected": True,
        "ConnectedVia": "URI" if url else "NotConnected",
        "Actions": {
            "#VirtualMedia.InsertMedia": {"target": INSERT_ACTION},
            "#VirtualMedia.EjectMedia": {"target": EJECT_ACTION},
        },
    }


def _collection(kind: str, name: str, *members: str) -> Json:
    return {
        "@odata.type": f"#{kind}Collection.{kind}Collection",
        "Name": name,
        "Members": [_link(member) for member in members],
        "Members@odata.count": len(members),
    }


def _link(path: str) -> Json:
    return {"@odata.id": path}
