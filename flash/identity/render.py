"""Tell people where a staked identity is."""

from flash.identity.command import Standing
from flash.identity.facts import HostState


def render_standing(standing: Standing) -> str:
    """Return claim, hosts, cluster and verdict, a line each."""
    claim, facts, chain = standing.claim, standing.facts, standing.facts.chain
    lines = [f"{standing.identity}  {facts.identity}"]
    if claim is None:
        lines.append("  claim    none: this store knows no holder")
    else:
        shown = f"{claim.state} {claim.host}" + (f" -> {claim.to}" if claim.to else "")
        said = " (not confirmed)" if claim.state == "held" and not claim.confirmed else ""
        lines.append(f"  claim    {shown}{said}, number {claim.number}, by {claim.by}")
    for host, state in {facts.asked.host: facts.candidate, **facts.fleet}.items():
        lines.append(f"  {host:<8} {_render_host(state, facts.identity)}")
    answers = f"{chain.answered} of {chain.asked} references"
    lines.append(f"  cluster  slot {chain.slot}, final {chain.finalized}, last vote {chain.last_vote} ({answers})")
    if standing.verdict.is_allowed:
        lines.append(f"  {facts.asked.host} may take it")
    lines += [f"  no: {reason.text} [{reason.code}]; {reason.cure}" for reason in standing.verdict.reasons]
    return "\n".join(lines)


def _render_host(state: HostState | None, identity: str) -> str:
    if state is None:
        return "does not answer"
    runs = "SIGNS" if state.running == identity else "unstaked" if state.running == state.unstaked else "no validator"
    tower = f"tower to {state.votes.last_vote}" if state.votes.last_vote is not None else "no tower"
    history = ", vote history" if state.votes.history_sha256 else ""
    ready = "ready" if not state.not_ready else "; ".join(state.not_ready)
    return f"{runs}, slot {state.slot}, {tower}{history}, Agave {'.'.join(map(str, state.minor))}, {ready}"
