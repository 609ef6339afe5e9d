"""What launches on the device cost, counted where their compiled code runs on the host: `running.machine(counts=True)`.

In: libraries whose launches were counted. Out: issue cycles, barriers, wavefronts and sectors by kernel, file, line and
phase. A phase is what a block does up to a barrier; its cycles are those of the scheduler with most to issue.
Source: counting.h counts; ptx.py says into how many instructions of the machine each of PTX is translated, roughly.
"""

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass, fields

SECTOR_BYTES = 32
LONGEST = "longest_slots", "longest_shared", "longest_near", "longest_far"  # as counting.h writes them


@dataclass
class Count:
    """Sums over all blocks of all launches."""

    slots: float = 0.0
    """Instructions that schedulers issue: one that any lane of a warp executes counts once."""
    lanes: float = 0.0
    """The same, for each lane that executes it."""
    doubles: float = 0.0
    """Of the slots, those of float64 arithmetic and comparisons."""
    integers: float = 0.0
    """Those of the integer units."""
    cycles: float = 0.0
    """Of whole phases only: slots of the busiest of four schedulers, which have every fourth warp each."""
    barriers: float = 0.0
    shared_requests: float = 0.0
    """Of warps."""
    wavefronts: float = 0.0
    """Cycles of shared memory: as many words of one bank as a request needs."""
    global_requests: float = 0.0
    sectors: float = 0.0
    """Of 32 bytes, that requests to global memory touch, caches or not."""
    longest_slots: float = 0.0
    """Of whole phases only: slots of the warp that has most of them; and so below."""
    longest_shared: float = 0.0
    longest_near: float = 0.0
    """Of requests to global memory that are waited for, those that L1 answers."""
    longest_far: float = 0.0

    def add(self, **more: float) -> None:
        """Adds to the fields that are named."""
        for name, value in more.items():
            setattr(self, name, getattr(self, name) + value)

    def __add__(self, other: "Count") -> "Count":
        return Count(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))

    def __truediv__(self, number: float) -> "Count":
        return Count(*(getattr(self, each.name) / number for each in fields(self)))


@dataclass
class Counts:
    """Of one library."""

    phases: dict[tuple[str, str], Count]
    """By kernel and the line of the barrier that ends them: what :class:`Count` says of whole phases, and slots."""
    lines: dict[tuple[str, str], Count]
    """By kernel and line: all but what only whole phases have."""
    num_launches: int
    num_blocks: int
    bytes_read: float
    """Of distinct sectors, of each launch those that it read before it wrote there."""
    bytes_written: float
    """Of distinct sectors."""

    def total(self) -> Count:
        """All of it."""
        cycles = sum(self.phases.values(), Count())
        everything = sum(self.lines.values(), Count())
        for name in ("cycles", *LONGEST):
            setattr(everything, name, getattr(cycles, name))
        return everything

    def by(self, what: str) -> dict[str, Count]:
        """The parts, most cycles first: by "kernel", "file", "line" or "phase".

        Files and lines have as many cycles as their share of the slots of their kernel.
        """
        found: dict[str, Count] = {}
        cycles_of = {kernel: 0.0 for kernel, _ in self.lines}
        slots_of = dict(cycles_of)
        for (kernel, place), count in self.phases.items():
            cycles_of[kernel] += count.cycles
            if what == "phase":
                found[f"{kernel} {place}"] = count
        for (kernel, _), count in self.lines.items():
            slots_of[kernel] += count.slots
        if what != "phase":
            names = {"kernel": lambda kernel, _: kernel, "file": lambda *at: " ".join(at).partition(":")[0]}
            for (kernel, line), count in self.lines.items():
                name = names.get(what, lambda *at: " ".join(at))(kernel, line)
                cycles = cycles_of[kernel] * count.slots / (slots_of[kernel] or 1)
                found[name] = found.get(name, Count()) + count + Count(cycles=cycles)
        return dict(sorted(found.items(), key=lambda each: -each[1].cycles))


def take(library: ctypes.CDLL) -> Counts:
    """What the launches since the last call cost."""
    return read(library.take_counts().decode())


def read(text: str) -> Counts:
    """What counting.h writes."""
    counts = Counts({}, {}, 0, 0, 0.0, 0.0)
    blocks: dict[int, tuple[str, int, int]] = {}
    for row in text.splitlines():
        (kind, *numbers), where = row.partition("\t")[0].split(), row.split("\t")[1:]
        numbers = [int(each) for each in numbers]
        if kind == "launches":
            counts.num_launches, counts.num_blocks = numbers[:2]
            counts.bytes_read, counts.bytes_written = (each * SECTOR_BYTES for each in numbers[2:])
        elif kind == "phase":
            _, times, cycles, slots, *longest = numbers
            place, instruction = where[1].split(" ")[:2]
            is_barrier = instruction.startswith("bar")
            count = counts.phases.setdefault((where[0], place if is_barrier else "end"), Count())
            count.add(cycles=cycles, slots=slots, barriers=times * is_barrier)
            count.add(**dict(zip(LONGEST, longest, strict=True)))
            if is_barrier:
                _of(counts.lines, where[0], place).add(barriers=times)
        elif kind == "block":
            blocks[numbers[0]] = where[0], *numbers[1:]
        elif kind == "share":
            (_, slots, *kinds), (kernel, warps, lanes) = numbers, blocks[numbers[0]]
            line = _of(counts.lines, kernel, where[0])
            line.add(slots=slots * warps, lanes=slots * lanes, doubles=kinds[0] * warps, integers=kinds[1] * warps)
        elif kind == "access":
            _, requests, wavefronts, sectors = numbers
            kinds = ("shared_requests", "wavefronts") if wavefronts else ("global_requests", "sectors")
            _of(counts.lines, where[0], where[1].split(" ")[0]).add(
                **dict(zip(kinds, (requests, wavefronts or sectors), strict=True))
            )
    return counts


def merged(all_counts: Iterable[Counts]) -> Counts:
    """Of several libraries, or of several runs of one."""
    result = Counts({}, {}, 0, 0, 0.0, 0.0)
    for each in all_counts:
        for mine, theirs in ((result.phases, each.phases), (result.lines, each.lines)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, Count()) + count
        for name in ("num_launches", "num_blocks", "bytes_read", "bytes_written"):
            setattr(result, name, getattr(result, name) + getattr(each, name))
    return result


def _of(lines: dict, kernel: str, place: str) -> Count:
    return lines.setdefault((kernel, place), Count())
