"""Accounts, holds and debt: docs/spec/formats.md "Ledger", and where ours is stricter.

After every operation remaining + reserved + committed = initial and none of them is negative. Money that was spent
above what an account had left is its debt, and while there is debt nothing remains.
"""

from dataclasses import dataclass

from model.encoding import digest, i64, string, u64

I64_MAX = 2**63 - 1


class LedgerError(Exception):
    """An operation that is refused as wrong, not as too dear. Nothing has changed."""


@dataclass(slots=True)
class Account:
    initial: int
    remaining: int
    reserved: int = 0
    committed: int = 0
    debt: int = 0
    cap: int | None = None


class Ledger:
    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.holds: dict[int, tuple[str, int]] = {}
        self.holds_given = 0

    def open_account(self, name: str, initial: int) -> None:
        if name in self.accounts or not name or initial < 0:
            raise LedgerError("open_account")
        self.accounts[name] = Account(initial=initial, remaining=initial)

    def set_cap(self, name: str, cap: int | None) -> None:
        self._account(name).cap = cap

    def reserve(self, name: str, amount: int) -> int | str:
        """The number of the hold, or why it was denied."""
        if amount < 0:
            raise LedgerError("amount")
        account = self._account(name)
        if account.reserved + amount > I64_MAX:
            return "overflow"
        if account.cap is not None and account.reserved + amount > account.cap:
            return "over_cap"
        if amount > account.remaining or account.debt:
            return "insufficient"
        account.remaining -= amount
        account.reserved += amount
        self.holds_given += 1
        self.holds[self.holds_given] = (name, amount)
        self._audit()
        return self.holds_given

    def commit(self, hold: int, actual: int) -> tuple[int, int, int]:
        """What was charged, what went back and what became debt."""
        if actual < 0:
            raise LedgerError("amount")
        if hold not in self.holds:
            raise LedgerError("hold")
        name, amount = self.holds[hold]
        account = self.accounts[name]
        above = max(actual - amount, 0)
        from_remaining = min(above, account.remaining)
        if account.debt + above - from_remaining > I64_MAX:
            raise LedgerError("debt")
        del self.holds[hold]
        account.reserved -= amount
        account.committed += min(actual, amount) + from_remaining
        account.remaining -= from_remaining
        account.debt += above - from_remaining
        returned = max(amount - actual, 0)
        self._credit(account, returned)
        self._audit()
        return min(actual, amount) + from_remaining, returned, above - from_remaining

    def release(self, hold: int) -> None:
        if hold not in self.holds:
            raise LedgerError("hold")
        name, amount = self.holds.pop(hold)
        self.accounts[name].reserved -= amount
        self._credit(self.accounts[name], amount)
        self._audit()

    def top_up(self, name: str, amount: int) -> None:
        if amount <= 0:
            raise LedgerError("amount")
        account = self._account(name)
        if account.initial + amount > I64_MAX:
            raise LedgerError("overflow")
        account.initial += amount
        self._credit(account, amount)
        self._audit()

    def _credit(self, account: Account, amount: int) -> None:
        """Debt is paid before anything remains."""
        repaid = min(account.debt, amount)
        account.debt -= repaid
        account.committed += repaid
        account.remaining += amount - repaid

    def _account(self, name: str) -> Account:
        if name not in self.accounts:
            raise LedgerError("account")
        return self.accounts[name]

    def _audit(self) -> None:
        for name, account in self.accounts.items():
            assert account.remaining + account.reserved + account.committed == account.initial
            assert min(account.remaining, account.reserved, account.committed, account.debt) >= 0
            assert account.debt == 0 or account.remaining == 0
            assert account.reserved == sum(amount for holder, amount in self.holds.values() if holder == name)


def snapshot_digest(snapshot: dict) -> bytes:
    """The digest of a snapshot that has the member names of the exchange format."""
    tenants = sorted(snapshot["tenants"], key=lambda tenant: tenant["tenant_id"].encode())
    parts = [u64(snapshot["version"]), u64(len(tenants)), u64(snapshot["active_reservations"])]
    for tenant in tenants:
        parts.append(string(tenant["tenant_id"]))
        parts += [i64(tenant[f"{part}_microcents"]) for part in ("initial", "remaining", "reserved", "committed")]
    if snapshot["wal_high_watermark"] is not None:
        parts.append(b"calybris.ledger.wal-watermark.v1\0" + u64(snapshot["wal_high_watermark"]))
    return digest("calyldg1", *parts)


def certificate(snapshot: dict) -> dict:
    """What a first certificate over this snapshot says."""
    tenants = snapshot["tenants"]
    initial = sum(tenant["initial_microcents"] for tenant in tenants)
    committed = sum(tenant["committed_microcents"] for tenant in tenants)
    representable = initial <= I64_MAX
    return {
        "snapshot_version": snapshot["version"],
        "ledger_digest_hex": snapshot_digest(snapshot).hex(),
        "tenant_count": len(tenants),
        "active_reservations": snapshot["active_reservations"],
        "conservation_balanced": representable,
        "total_initial_microcents": initial if representable else 0,
        "total_committed_microcents": committed if representable else 0,
        "aggregate_totals_representable": representable,
        "committed_since_last_certificate": committed if representable else 0,
    }
