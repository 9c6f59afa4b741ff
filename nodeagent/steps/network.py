"""Step: the board has an address and a way out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nodeagent.cluster import kubeadm_state, resolver
from nodeagent.config.settings import Settings
from nodeagent.errors import Blocked
from nodeagent.host.actions import Action
from nodeagent.host.facts import Facts
from nodeagent.host.net import radio
from nodeagent.steps.step import Step


@dataclass(frozen=True)
class Network(Step):
    """Waits; after ``timing.network_wait`` seconds from power-on it says more. Whether the pods
    would take the address away is for the next step, ``networks``.

    So long it waits for IPv4 too, where nobody asked for IPv6: that often comes first, and the
    cluster speaks only one of them for ever.
    """

    name = "network"
    title = "Wait for the network"
    group = "Network"
    why = "The node is known to the others by this address."

    def plan(self, facts: Facts, settings: Settings) -> Iterator[Action]:
        """Only looks. Raises Blocked."""
        yield from ()
        if not facts.live:
            return
        wanted, version = settings.network.interface, settings.network.version
        address = facts.address(wanted, version)
        late = facts.uptime >= settings.timing.network_wait
        if address and facts.interface() and (late or version == 6 or ":" not in address):
            if kubeadm_state.read(facts.host) is kubeadm_state.State.NOTHING:
                resolver.check(facts)
            return
        if not late and address and facts.interface():
            raise Blocked(
                f"Waiting for an IPv4 address beside {address}.",
                "Nothing; on a network with IPv6 alone the agent goes on by itself.",
            )
        if not late:
            raise Blocked(
                "Waiting for an address on the network.",
                "Nothing yet; this takes some seconds.",
                within=settings.timing.network_wait - facts.uptime,
            )
        name = facts.interface(wanted)
        off = radio.blocked(facts)
        if off and address is None and (name is None or not facts.wired(wanted)):
            raise _switched_off(off)
        if name is None:
            reason = "No network: there is no default route."
            remedy = "Check the cable, or the Wi-Fi name and password, and the router's DHCP."
        elif address is None:
            there = facts.exists(f"/sys/class/net/{name}")
            reason = (
                f"No network: {name} has no address that reaches beyond its own link."
                if there
                else f"No network: {name} does not exist."
            )
            remedy = "Check the cable or Wi-Fi, and `network.interface` in the settings."
        else:
            reason = f"No network: {name} has an address, but there is no default route."
            remedy = "Check that the router announces itself as the gateway."
        raise Blocked(reason, remedy)

    def holds(self, facts: Facts, settings: Settings) -> str:
        """See ``Step.holds``."""
        wanted = settings.network.interface
        return f"{facts.address(wanted)} on {facts.interface(wanted)}"


def _switched_off(how: str) -> Blocked:
    """A reason of its own, or people would look for a wrong password."""
    if how == "hard":
        return Blocked(
            "No network: the Wi-Fi is switched off by a switch of the device (rfkill).",
            "Switch it on there, or plug in a cable.",
        )
    return Blocked(
        "No network: the Wi-Fi is switched off (rfkill), as it is until a country is set.",
        "Set yours with `sudo raspi-config nonint do_wifi_country GB`, or run `sudo rfkill unblock"
        " wlan`; or plug in a cable.",
    )
