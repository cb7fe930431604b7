"""What a decision of a batch executes: instructions, those of vectors, those that touch memory, and divisions.

    make bench-instructions
    python benches/python/instructions.py [--sizes 22 64] [--vectors avx512] [--rows 64]

The program `benches/examples/rows.rs` is stepped through a batch, one instruction at a time, and each is looked up in
what `objdump` makes of the program. So it counts on any Linux on x86-64, also where the processor's own counters cannot
be read. Times are those of 4,096 rows at full speed in the same process, and a cycle is what one of two instructions
takes that wait for each other.
"""

import argparse
import ctypes
import os
import re
import subprocess
from collections import Counter
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "target" / "release" / "examples" / "rows"
TRACEME, CONT, SINGLESTEP, GETREGS, SYSCALL = 0, 7, 9, 12, 24
# In `struct user_regs_struct`.
RDX, RSI, ORIG_RAX, RIP = 12, 13, 15, 16
WRITE = 1
SYSTEM_CALL = b"\x0f\x05"

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
Registers = ctypes.c_ulonglong * 27


def ptrace(request: int, child: int, room: object = None) -> None:
    if libc.ptrace(request, child, None, room) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def registers(child: int) -> list[int]:
    found = Registers()
    ptrace(GETREGS, child, ctypes.byref(found))
    return list(found)


def written(child: int) -> str:
    """What the system call at which the child stands writes, if it is one that writes."""
    found = registers(child)
    with Path(f"/proc/{child}/mem").open("rb") as memory:
        memory.seek(found[RSI])
        return memory.read(found[RDX]).decode(errors="replace").strip() if found[ORIG_RAX] == WRITE else ""


def at_system_call(child: int, place: int) -> bool:
    with Path(f"/proc/{child}/mem").open("rb") as memory:
        memory.seek(place)
        return memory.read(2) == SYSTEM_CALL


def stepped(size: int, workload: str, vectors: str, rows: int) -> tuple[str, Counter[int]]:
    """The program's first line, and how often each of its instructions was executed between the next two.

    What libraries execute is counted at 0."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(writes, 1)
        ptrace(TRACEME, 0)
        os.execv(PROGRAM, [str(PROGRAM), str(size), workload, vectors, str(rows)])
    os.waitpid(child, 0)
    os.close(writes)
    while written(child) != "begin":
        ptrace(SYSCALL, child)
        os.waitpid(child, 0)
    ptrace(SYSCALL, child)
    os.waitpid(child, 0)
    maps = [line.split() for line in Path(f"/proc/{child}/maps").read_text().splitlines() if str(PROGRAM) in line]
    base, end = int(maps[0][0].split("-")[0], 16), int(maps[-1][0].split("-")[1], 16)
    executed = Counter[int]()
    while True:
        place = registers(child)[RIP]
        if base <= place < end:
            executed[place - base] += 1
        elif at_system_call(child, place):
            break
        else:
            executed[0] += 1
        ptrace(SINGLESTEP, child)
        os.waitpid(child, 0)
    ptrace(CONT, child)
    os.waitpid(child, 0)
    with os.fdopen(reads) as told:
        return told.readline(), executed


def instructions() -> dict[int, str]:
    """Every instruction of the program, by its place."""
    listing = subprocess.run(
        ["objdump", "-d", "-M", "intel", "--no-show-raw-insn", PROGRAM], capture_output=True, text=True, check=True
    ).stdout
    return {int(place, 16): text for place, text in re.findall(r"^ *([0-9a-f]+):\t(.*)$", listing, re.MULTILINE)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", type=int, default=[22, 64, 256])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--vectors", nargs="+", default=["avx512", "avx2"])
    asked = parser.parse_args()
    known = instructions()
    kinds = {
        "vectors": lambda text: re.search(r"[xyz]mm", text),
        "memory": lambda text: "[" in text and not text.startswith(("lea", "nop", "prefetch")),
        "divisions": lambda text: "div" in text.split()[0],
    }
    heads = "".join(f"{kind:>11}" for kind in kinds)
    print(f"{'a decision':<24}{'instructions':>14}{heads}{'ns':>9}{'cycles':>9}{'a cycle':>9}")
    for workload in ("syn", "real"):
        for vectors in asked.vectors:
            for size in asked.sizes:
                told, few = stepped(size, workload, vectors, asked.rows)
                _, more = stepped(size, workload, vectors, 2 * asked.rows)
                # What is executed once cancels out.
                each = {place: (more[place] - few[place]) / asked.rows for place in more}
                total = sum(each.values())
                parts = [
                    sum(count for place, count in each.items() if place and kind(known[place]))
                    for kind in kinds.values()
                ]
                nanoseconds, cycle = map(float, told.split())
                cycles = nanoseconds / cycle
                print(
                    f"{f'{size}/{workload}/{vectors}':<24}{total:>14.1f}{''.join(f'{part:>11.1f}' for part in parts)}"
                    f"{nanoseconds:>9.1f}{cycles:>9.1f}{total / cycles:>9.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
