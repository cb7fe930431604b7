"""Digests of a selection and of an observed outcome, docs/spec/formats.md."""

from model.encoding import digest, option, u8, u16, u32, u64

DISPOSITIONS = {"Applied": 0, "Abandoned": 1, "InFlight": 2}


def selection_digest(*, strategy: int, acted_model_id: int, propensity_bps: int | None) -> bytes:
    propensity = None if propensity_bps is None else u16(propensity_bps)
    return digest("calysel1", u8(strategy), u32(acted_model_id), option(propensity))


def outcome_digest(
    *,
    identity: bytes,
    observed_at_micros: int,
    revision: int,
    selection: bytes,
    disposition: str,
    realized_cost_microunits: int | None,
    realized_latency_ms: int | None,
    succeeded: bool | None,
) -> bytes:
    return digest(
        "calyout1",
        identity,
        u64(observed_at_micros),
        u32(revision),
        selection,
        u8(DISPOSITIONS[disposition]),
        option(None if realized_cost_microunits is None else u64(realized_cost_microunits)),
        option(None if realized_latency_ms is None else u32(realized_latency_ms)),
        option(None if succeeded is None else u8(succeeded)),
    )
