"""The contract once more, in plain Python: the oracle that the extension is compared with.

Written from docs/spec alone. It imports nothing of ``decidable`` and shares no code with it, prefers brute force to
cleverness, and is the only Python in this project that computes a decision, a digest or a balance.
"""
