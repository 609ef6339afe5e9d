"""PTX as C++: every kernel becomes a function of one thread, whose accesses and barriers machine.h checks.

In: the PTX of nvcc or Triton. Out: C++ that defines ``kernels`` and ``sites``; an unknown instruction is refused.
Source: PTX ISA 9.0, chapter "Instruction Set". Registers are unsigned numbers, floats by their bits; nothing is fused.
"""

import re
from collections import Counter, defaultdict

C_TYPES = {f"{kind}{bits}": f"{c}{bits}_t" for kind, c in (("s", "int"), ("u", "uint"), ("b", "uint")) for bits in
           (8, 16, 32, 64)} | {"f32": "float", "f64": "double", "pred": "bool"}  # fmt: skip
SPECIAL = {
    "%tid.x": "t.rank", "%tid.y": "0", "%tid.z": "0", "%ntid.x": "t.size", "%ntid.y": "1", "%ntid.z": "1",
    "%ctaid.x": "t.block_x", "%ctaid.y": "t.block_y", "%ctaid.z": "0", "%nctaid.x": "t.blocks_x",
    "%nctaid.y": "t.blocks_y", "%nctaid.z": "1", "%laneid": "t.rank % 32", "%warpid": "t.rank / 32",
    "WARP_SZ": "32",
}  # fmt: skip
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
               "lo": "<", "ls": "<=", "hi": ">", "hs": ">="}  # fmt: skip
LOGIC = {"and": "&", "or": "|", "xor": "^"}
ARITHMETIC = {"add": "+", "sub": "-", "mul": "*", **LOGIC}

# Issue slots of what ptxas makes of an instruction, roughly; 1 of all others. (Pattern, slots), the first that fits.
ISSUE_SLOTS = [
    (r"cvta", 0), (r"div\.u32", 18), (r"div\.s32", 22), (r"div\.u64", 70), (r"div\.s64", 80), (r"div", 30),
    (r"rem", 20), (r"mul\.lo\.[su]64$", 4), (r"(add|sub|and|or|xor|shl|shr|selp|setp|min|max|not)\b.*[sub]64$", 2),
    (r"(add|mul|fma|setp|min|max)\b.*f64$", 2),
]  # fmt: skip
# Those that only the integer units execute, of which a multiprocessor has 64.
INTEGER = r"(add|sub|and|or|xor|not|shl|shr|shf|setp|selp|min|max|lop3|prmt|bfe|bfi)\b.*[sub](16|32|64)$"
HELPERS = ("block.h:", "standard.py:", "sm_60_atomic_functions.hpp:")


class Unknown(Exception):
    """An instruction that this translation does not know; its text is the message."""


def issue_slots(opcode: str) -> int:
    """How many instructions of the machine a scheduler issues for one of PTX."""
    return next((slots for pattern, slots in ISSUE_SLOTS if re.match(pattern, opcode)), 1)


def without_slots(statements: list[str]) -> set[int]:
    """Which statements ptxas makes no instruction of, by place: in its machine code there is none for them.

    These are halves and wholes of 64-bit registers, sums that only addresses use, which have room for a number, and
    what Triton writes into a register before a load without a guard, or for a result that nobody reads. Of the 654 that
    a thread of `_level_image` comes to, 519 are left; in the machine code of sm_90 they are 522.
    """
    found, numbers = set(), []
    mentions, as_address = (Counter(re.findall(rf"{before}(%\w+)", ";".join(statements))) for before in ("", r"\[\s*"))
    for place, statement in enumerate(statements):
        opcode, _, rest = statement.partition(" ")
        operands = _operands(rest)
        if re.match(r"mov\.b64 .*\{", statement):
            found.add(place)
        elif re.fullmatch(r"add\.s64 %\w+, %\w+, -?\d+", statement):
            if mentions[operands[0]] == as_address[operands[0]] + 1:
                found.add(place)
        if re.fullmatch(r"mov\.\w+ %\w+, (0x)?0", statement):
            numbers.append((place, operands[0]))
            continue
        written = re.findall(r"%\w+", operands[0]) if re.match(r"ld\b", statement) else []
        if atomic := re.fullmatch(r"(?:@\S+ )?atom\S+ (%\w+),.*", statement):
            written = [atomic[1]] if mentions[atomic[1]] == 2 else []
        found |= {at for at, register in numbers if register in written}
        numbers = []
    return found


def translate(ptx: str, *, counts: bool = False, only: str = "") -> str:
    """C++ for all kernels of a module, to be compiled after machine.h was included.

    Args:
        ptx: Of the module.
        counts: Whether it also tells counting.h which basic blocks its threads come to.
        only: What the names of the kernels must have in them.
    """
    ptx = re.sub(r"/\*.*?\*/", "", ptx, flags=re.DOTALL)
    ptx = re.sub(r"(?m)^\s*\.loc\b([^\n]*)$", _places_in, ptx)
    ptx = re.sub(r"//[^\n]*", "", ptx)
    files = {
        number: re.findall(r'"([^"]*)"', names)[-1].rpartition("/")[2]
        for number, names in re.findall(r"(?m)^\s*\.file\s+(\d+)([^\n]*)$", ptx)
    }
    shared, end = {}, 0
    for _, name, size in re.findall(r"\.shared\s+\.align\s+(\d+)\s+\.b8\s+(\w+)\[(\d*)\]", ptx):
        if size:
            raise Unknown(f"shared memory of a fixed size: {name}")  # none has any; it would lie before the rest
        shared[name] = end
    sites = ['{"", false, "", false}']
    functions, table, shares, owners = [], [], [], []
    for found in re.finditer(r"\.entry\s+([\w$]+)\s*\((.*?)\)([^{]*)\{", ptx, re.DOTALL):
        name, parameters, directives = found.groups()
        name = (re.search(r"[a-z_]+_kernel(?:ILb[01])?", name) or [name])[0]  # of a mangled one the part that tells
        if not re.search(only, name):
            continue
        body = ptx[found.end() : _closing(ptx, found.end())]
        kernel = _Kernel(name, parameters, body, shared, sites, files, len(owners) if counts else None)
        for block, places in enumerate(kernel.blocks, len(owners)):
            shares += [f'{{{block}, {", ".join(map(str, kinds))}, "{at}"}}' for at, kinds in places.items()]
        owners += [f'"{name}"'] * len(kernel.blocks)
        threads = re.search(r"\.(?:reqntid|maxntid)\s+(\d+)", directives)
        functions.append(f"static void kernel_{len(table)}(Thread& t) {{\n{kernel.code}\n}}\n")
        table.append(f'{{"{name}", kernel_{len(table)}, {kernel.num_bytes}, {threads[1] if threads else 256}}}')
    if len(sites) > 65535:
        raise Unknown("more memory accesses than a cell can name")
    if counts:
        functions.append(
            f"const Share shares[] = {{{', '.join(shares)}}};\nconst int num_shares = {len(shares)};\n"
            f"const char* const kernels_of_blocks[] = {{{', '.join(owners)}}};\n"
            f"const int num_basic_blocks = {len(owners)};\n"
        )
    return (
        "".join(functions)
        + f"const Kernel kernels[] = {{{', '.join(table)}}};\nconst int num_kernels = {len(table)};\n"
        + f"const Site sites[] = {{{', '.join(sites)}}};\nconst int num_sites = {len(sites)};\n"
    )


def _places_in(loc: re.Match) -> str:
    """A .loc as a statement: with the numbers of files as nvcc writes it, or with the names that Triton adds."""
    numbers, _, comment = loc[1].partition("//")
    named = re.findall(r"(\w+\.py):(\d+):\d+", comment)
    return f".loc {' '.join(f'{file} {line}' for file, line in named)};" if named else f".loc{numbers};"


def _closing(text: str, at: int) -> int:
    depth = 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        at += 1
    return at - 1


def _operands(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    return [each.strip() for each in re.findall(r"(?:\{[^}]*\}|\[[^]]*\]|[^,{[])+", text)]


class _Kernel:
    """One kernel's code; ``sites`` grows by the accesses and barriers it has.

    With ``first_block``, the number of its first basic block, the code says which of them a thread comes to; ``blocks``
    has the issue slots of each by place: all of them, those of float64, those of the integer units.
    """

    def __init__(
        self,
        name: str,
        parameters: str,
        body: str,
        shared: dict[str, int],
        sites: list[str],
        files: dict[str, str],
        first_block: int | None,
    ):
        self.name = name
        self.shared, self.sites, self.files, self.registers, self.parameters = shared, sites, files, {}, {}
        self.places: list[tuple[str, str]] = []  # files and lines that led to the next instruction, innermost first
        self.ends_places = False
        self.first_block, self.blocks = first_block, []
        self.num_bytes = 0
        for align, dtype, name, count in re.findall(
            r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr\s+(?:\.global\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)"
            r"(?:\[(\d+)\])?",
            parameters,
        ):
            size = int(dtype[1:]) // 8
            align = int(align or size)
            self.num_bytes = -(-self.num_bytes // align) * align
            self.parameters[name] = self.num_bytes
            self.num_bytes += size * int(count or 1)
        for declared in re.finditer(r"\.reg\s+\.(\w+)\s+([^;]+);", body):
            self._declare(*declared.groups())
        self.mentions = Counter(re.findall(r"%\w+", body))
        self.zeroed = Counter(re.findall(r"\bmov\.\w+\s+(%\w+),\s*0x0\b", body))
        lines, statements = [self._new_block()], []
        for statement in re.sub(r"\.reg\s+[^;]+;", "", body).split(";"):
            while label := re.match(r"\s*(?:([$\w]+)\s*:(?!:)|[{}])", statement):
                statements += [label[1] + ":"] if label[1] else []
                statement = statement[label.end() :]
            statements += [" ".join(statement.split())]
        statements = [each for each in statements if each and not each.startswith(".pragma")]
        code = [place for place, each in enumerate(statements) if not each.startswith(".loc")]
        free = {code[place] for place in without_slots([statements[place] for place in code])}
        for place, statement in enumerate(statements):
            if statement.endswith(":"):
                lines += [f"{_c_name(statement[:-1])}:;", self._new_block()]
            elif statement.startswith(".loc"):
                self._note_place(statement)
            else:
                lines.append(self._statement(statement, place in free))
                self.ends_places = True
                if re.match(r"(@\S+ )?(bra|bar\.sync|barrier)\b", statement):
                    lines.append(self._new_block())
        used = set(re.findall(r"\bv_\w+", " ".join(lines)))
        registers = [
            f"{'bool' if bits == 1 else f'uint{bits}_t'} {_c_name(name)} = 0;"
            for name, bits in self.registers.items()
            if _c_name(name) in used
        ]
        self.code = "\n".join(registers + lines)

    def _new_block(self) -> str:
        if self.first_block is None:
            return ""
        self.blocks.append(defaultdict(lambda: (0, 0, 0)))
        return f"t.enter({self.first_block + len(self.blocks) - 1});"

    def _declare(self, dtype: str, names: str) -> None:
        bits = 1 if dtype == "pred" else int(dtype[1:])
        for name in (each.strip() for each in names.split(",")):
            many = re.fullmatch(r"(%\w+)<(\d+)>", name)
            for each in [f"{many[1]}{index}" for index in range(int(many[2]))] if many else [name]:
                if self.registers.setdefault(each, bits) != bits:
                    raise Unknown(f"two registers of the name {each}")

    def _note_place(self, loc: str) -> None:
        if ".py " in loc:
            self.places, self.ends_places = re.findall(r"(\S+\.py) (\d+)", loc), True
            return
        here, where = re.fullmatch(r"\.loc (\d+ \d+) \d+(?:.*inlined_at (\d+ \d+) \d+)?.*", loc).groups()
        before = [] if self.ends_places else self.places
        self.places, self.ends_places = [tuple(each.split()) for each in (here, where) if each] + before, False

    def _place(self) -> str:
        """The line of source that an instruction is for, rather than that of a helper which all of it goes through."""
        places = [f"{self.files.get(file, file)}:{line}" for file, line in self.places if line != "0"]
        return next((each for each in places if not each.startswith(HELPERS)), "")

    def _statement(self, text: str, is_free: bool) -> str:
        self.text = text
        guard, text = re.fullmatch(r"(?:@(!?%\w+)\s+)?(.*)", text).groups()
        opcode, _, rest = text.partition(" ")
        name, *modifiers = opcode.split(".")
        if self.blocks:
            more = 0 if is_free else issue_slots(opcode)
            kinds = more, more * opcode.endswith("f64"), more * bool(re.match(INTEGER, opcode))
            self.blocks[-1][self._place()] = tuple(map(sum, zip(self.blocks[-1][self._place()], kinds, strict=True)))
        translated = getattr(self, f"_{name}", None)
        code = translated(modifiers, *_operands(rest)) if translated else None
        if code is None:
            raise Unknown(self.text)
        return f"if ({self._read(guard, 'pred')}) {{ {code} }}" if guard else f"{{ {code} }}"

    def _only(self, modifiers: list[str], *known: str) -> None:
        if set(modifiers) - set(known):
            raise Unknown(self.text)

    # Operands

    def _read(self, operand: str, dtype: str) -> str:
        """An operand as a C++ value of a PTX type."""
        c_type = C_TYPES[dtype]
        if operand in SPECIAL:
            return f"(({c_type})({SPECIAL[operand]}))"
        if dtype == "pred":
            negated = operand.startswith("!")
            if operand.lstrip("!") in self.registers:
                return "!" * negated + _c_name(operand.lstrip("!"))
            return {"0": "false", "1": "true", "-1": "true"}[operand]
        if operand in self.registers:
            register = _c_name(operand)
            return f"bits_as<{c_type}>({register})" if dtype[0] == "f" else f"(({c_type}){register})"
        if number := re.fullmatch(r"0[dDfF]([0-9a-fA-F]+)", operand):
            return f"bits_as<{c_type}>((uint{len(number[1]) * 4}_t)0x{number[1]}ull)"
        if re.fullmatch(r"-?(0[xX][0-9a-fA-F]+|\d+)U?", operand):
            return f"(({c_type}){int(operand.rstrip('U'), 0) & (2**64 - 1):#x}ull)"
        if operand in self.parameters:
            return f"((uint64_t)(t.parameters + {self.parameters[operand]}))"
        if operand in self.shared:
            return f"(({c_type}){self.shared[operand]})"
        raise Unknown(f"{operand} in {self.text}")

    def _write(self, operand: str, dtype: str, value: str) -> str:
        """Code that puts a C++ value of a PTX type into a register."""
        if operand == "_":
            return ""
        if dtype == "pred":
            return f"{_c_name(operand)} = {value};"
        if dtype[0] == "f":
            return f"{_c_name(operand)} = bits_as<uint{dtype[1:]}_t>(({C_TYPES[dtype]})({value}));"
        return f"{_c_name(operand)} = (uint{self.registers[operand]}_t)({C_TYPES[dtype]})({value});"

    def _site(self, is_device_wide: bool = False, is_waited_for: bool = True) -> int:
        text = self.text
        for name in self.shared:
            text = text.replace(name, "shared")
        flags = [str(each).lower() for each in (is_device_wide, is_waited_for)]
        self.sites.append(f'{{"{self._place()} {text}", {flags[0]}, "{self.name}", {flags[1]}}}')
        return len(self.sites) - 1

    def _address(self, operand: str, space: str) -> str:
        base, offset = re.fullmatch(r"\[\s*([^\]+\s]+)\s*(?:\+\s*(-?\w+)\s*)?\]", operand).groups()
        offset = int(offset or "0", 0)
        if base in self.parameters:
            return f"(uint64_t)(t.parameters + {self.parameters[base] + offset})"
        if space == "shared":
            return f"(uint64_t)t.shared + (uint32_t)({self._read(base, 'u64')} + {offset}ll)"
        return f"{self._read(base, 'u64')} + {offset}ll"

    # Memory

    def _memory(self, modifiers: list[str]) -> tuple[str, str, int, bool]:
        """Space, type, length of the vector, whether it is atomic."""
        spaces, atomic = ("global", "shared", "param", "local", "const"), ("relaxed", "volatile", "acquire", "release")
        self._only(modifiers[:-1], *spaces, *atomic, "v2", "v4", "cta", "gpu", "sys", "nc", "cluster")
        space = next((each for each in modifiers if each in spaces), "generic")
        count = next((int(each[1:]) for each in modifiers if each in ("v2", "v4")), 1)
        if space in ("local", "const"):
            raise Unknown(self.text)
        return space, modifiers[-1], count, any(each in atomic for each in modifiers)

    def _ld(self, modifiers, to, address):
        space, dtype, count, atomic = self._memory(modifiers)
        size, place = int(dtype[1:]) // 8, self._address(address, space)
        if space == "param":
            code = f"const char* p = (const char*)({place});"
        else:
            kind, site = "kAtomicRead" if atomic else "kRead", self._site(atomic and "cta" not in modifiers)
            unread = sum(
                ((1 << size) - 1) << index * size  # the padding of a structure, for one
                for index, register in enumerate(_vector(to, count))
                if count > 1 and self.mentions[register] == 1
            )
            code = f"const char* p = t.access({kind}, {place}, {size * count}, {site}, nullptr, {unread:#x});"
        for index, register in enumerate(_vector(to, count)):
            value = self._write(register, dtype, "x")
            code += f" {{ {C_TYPES[dtype]} x; memcpy(&x, p + {index * size}, {size}); {value} }}"
        return code

    def _st(self, modifiers, address, values):
        space, dtype, count, atomic = self._memory(modifiers)
        size, place = int(dtype[1:]) // 8, self._address(address, space)
        site = self._site(atomic and "cta" not in modifiers, is_waited_for=False)
        read = ", ".join(self._read(register, dtype) for register in _vector(values, count))
        return (
            f"const {C_TYPES[dtype]} x[] = {{{read}}}; char* p = t.access({'kAtomicWrite' if atomic else 'kWrite'}, "
            f"{place}, {size * count}, {site}, x); memcpy(p, x, sizeof x);"
        )

    def _atom(self, modifiers, to, address, value, other=None):
        kinds = {
            "add": "old + y", "min": "old < y ? old : y", "max": "old > y ? old : y", "or": "old | y",
            "and": "old & y", "xor": "old ^ y", "exch": "y", "cas": "",
        }  # fmt: skip
        self._only(modifiers[:-1], *kinds, "global", "shared", "cta", "gpu", "sys", "relaxed", "acq_rel", "acquire")
        kind, dtype = next(each for each in modifiers if each in kinds), modifiers[-1]
        space, c_type, size = "shared" if "shared" in modifiers else "generic", C_TYPES[dtype], int(dtype[1:]) // 8
        is_read = to != "_" and self.mentions[to] > 1 + self.zeroed[to]  # which Triton does before each of them
        site = self._site("cta" not in modifiers, is_waited_for=is_read)
        new = f"old == y ? {self._read(other, dtype)} : old" if kind == "cas" else kinds[kind]
        return (
            f"char* p = t.access(kAtomicUpdate, {self._address(address, space)}, {size}, {site}); "
            f"{c_type} old; memcpy(&old, p, {size}); const {c_type} y = {self._read(value, dtype)}; "
            f"const {c_type} x = ({c_type})({new}); memcpy(p, &x, {size}); {self._write(to, dtype, 'old')}"
        )

    def _red(self, modifiers, address, value):
        return self._atom(modifiers, "_", address, value)

    def _cvta(self, modifiers, to, value):
        self._only(modifiers, "to", "global", "shared", "param", "u64")
        sign = {True: "-", False: "+"}["to" in modifiers]
        return self._write(
            to, "u64", self._read(value, "u64") + (f" {sign} (uint64_t)t.shared" * ("shared" in modifiers))
        )

    # Control

    def _bra(self, modifiers, label):
        return f"goto {_c_name(label)};"

    def _ret(self, modifiers):
        return "return;" if self.first_block is None else f"t.site = {self._site()}; return;"

    _exit = _ret

    def _bar(self, modifiers, *operands):
        if "warp" in modifiers:
            return f"t.meet({self._read(operands[0], 'u32')}, 0, {self._site()}, true);"
        self._only(modifiers, "sync", "cta", "aligned")
        return f"t.barrier({self._site()});" if operands == ("0",) else None

    _barrier = _bar

    # Arithmetic

    def _binary(self, name, modifiers, to, x, y):
        *about, dtype = modifiers
        if "wide" in about:
            self._only(about, "wide")
            wide = dtype[0] + str(2 * int(dtype[1:]))
            c_type = C_TYPES[wide]
            return self._write(
                to, wide, f"({c_type}){self._read(x, dtype)} {ARITHMETIC[name]} ({c_type}){self._read(y, dtype)}"
            )
        x, y = self._read(x, dtype), self._read(y, dtype)
        if dtype[0] == "f" or dtype == "pred":
            self._only(about, *(["rn"] if dtype == "f64" or name != "div" else []))
            return self._write(to, dtype, f"{x} {ARITHMETIC[name]} {y}")
        if "hi" in about:
            self._only(about, "hi")
            return self._write(to, dtype, f"high_product<{C_TYPES[dtype]}>({x}, {y})")
        self._only(about, "lo")
        unsigned = "u" + dtype[1:]
        wide = "uint32_t" if dtype[1:] in ("8", "16") else C_TYPES[unsigned]  # small ones would become signed
        return self._write(to, unsigned, f"({wide}){x} {ARITHMETIC[name]} ({wide}){y}")

    def _add(self, *rest):
        return self._binary("add", *rest)

    def _sub(self, *rest):
        return self._binary("sub", *rest)

    def _mul(self, *rest):
        return self._binary("mul", *rest)

    def _and(self, *rest):
        return self._binary("and", *rest)

    def _or(self, *rest):
        return self._binary("or", *rest)

    def _xor(self, *rest):
        return self._binary("xor", *rest)

    def _call(self, function, modifiers, to, *values):
        """A function of values of one type, whose result is one of that type."""
        dtype = modifiers[-1]
        self._only(modifiers[:-1])
        return self._write(to, dtype, f"{function}({', '.join(self._read(each, dtype) for each in values)})")

    def _div(self, modifiers, to, x, y):
        *about, dtype = modifiers
        if dtype[0] != "f":
            return self._call("quotient", modifiers, to, x, y)
        self._only(about, "rn")
        return self._write(to, dtype, f"{self._read(x, dtype)} / {self._read(y, dtype)}") if about == ["rn"] else None

    def _rem(self, *rest):
        return self._call("remainder_of", *rest)

    def _min(self, modifiers, *rest):
        return self._call("ptx_min" if modifiers[-1][0] == "f" else "std::min", modifiers, *rest)

    def _max(self, modifiers, *rest):
        return self._call("ptx_max" if modifiers[-1][0] == "f" else "std::max", modifiers, *rest)

    def _abs(self, modifiers, *rest):
        return self._call("std::fabs" if modifiers[-1][0] == "f" else "std::abs", modifiers, *rest)

    def _neg(self, modifiers, to, x):
        dtype = modifiers[-1] if modifiers[-1][0] == "f" else "u" + modifiers[-1][1:]
        self._only(modifiers[:-1])
        return self._write(to, dtype, f"-{self._read(x, dtype)}")

    def _not(self, modifiers, to, x):
        self._only(modifiers[:-1])
        return self._write(to, modifiers[-1], ("!" if modifiers[-1] == "pred" else "~") + self._read(x, modifiers[-1]))

    def _sum_of_product(self, modifiers, to, x, y, z):
        *about, dtype = modifiers
        if dtype[0] == "f":
            self._only(about, "rn")
            x, y, z = (self._read(each, dtype) for each in (x, y, z))
            return self._write(to, dtype, f"std::fma({x}, {y}, {z})")
        if about == ["wide"]:
            wide = dtype[0] + str(2 * int(dtype[1:]))
            c_type, unsigned = C_TYPES[wide], "u" + wide[1:]
            x, y = (f"({c_type}){self._read(each, dtype)}" for each in (x, y))
            return self._write(to, unsigned, f"({C_TYPES[unsigned]})({x} * {y}) + {self._read(z, unsigned)}")
        if about != ["lo"] or dtype[1:] not in ("32", "64"):
            return None
        x, y, z = (self._read(each, "u" + dtype[1:]) for each in (x, y, z))
        return self._write(to, "u" + dtype[1:], f"{x} * {y} + {z}")

    _mad = _fma = _sum_of_product

    def _shift(self, function, modifiers, to, x, by):
        self._only(modifiers[:-1])
        value = f"{function}({self._read(x, modifiers[-1])}, {self._read(by, 'u32')})"
        return self._write(to, modifiers[-1], value)

    def _shl(self, modifiers, *rest):
        return self._shift("shifted_left", modifiers, *rest)

    def _shr(self, modifiers, *rest):
        return self._shift("shifted_right", modifiers, *rest)

    def _shf(self, modifiers, to, low, high, by):
        self._only(modifiers, "l", "r", "wrap", "clamp", "b32")
        low, high, by = (self._read(each, "u32") for each in (low, high, by))
        by = f"std::min({by}, 32u)" if "clamp" in modifiers else f"({by} & 31)"
        both = f"(uint64_t){high} << 32 | {low}"
        return self._write(to, "u32", f"(({both}) << {by}) >> 32" if "l" in modifiers else f"({both}) >> {by}")

    def _bfi(self, modifiers, to, field, into, at, count):
        x, y = self._read(field, modifiers[-1]), self._read(into, modifiers[-1])
        return self._write(
            to, modifiers[-1], f"inserted_bits({x}, {y}, {self._read(at, 'u32')}, {self._read(count, 'u32')})"
        )

    def _bfe(self, modifiers, to, x, at, count):
        value = f"extracted_bits({self._read(x, modifiers[-1])}, {self._read(at, 'u32')}, {self._read(count, 'u32')})"
        return self._write(to, modifiers[-1], value)

    def _prmt(self, modifiers, to, *values):
        self._only(modifiers, "b32")
        return self._write(to, "b32", f"permuted_bytes({', '.join(self._read(each, 'b32') for each in values)})")

    def _lop3(self, modifiers, to, *values):
        self._only(modifiers, "b32")
        return self._write(to, "b32", f"by_truth_table({', '.join(self._read(each, 'b32') for each in values)})")

    def _popc(self, modifiers, to, x):
        return self._write(to, "u32", f"__builtin_popcountll({self._read(x, modifiers[-1])})")

    def _brev(self, modifiers, to, x):
        self._only(modifiers, "b32")
        return self._write(to, "u32", f"reversed_bits({self._read(x, 'b32')})")

    def _bfind(self, modifiers, to, x):
        self._only(modifiers, "shiftamt", "u32")
        zeros = f"leading_zeros({self._read(x, 'u32')})"
        return self._write(to, "u32", f"{zeros} == 32 ? ~0u : {'' if 'shiftamt' in modifiers else '31 - '}{zeros}")

    def _clz(self, modifiers, to, x):
        return self._write(to, "u32", f"leading_zeros({self._read(x, modifiers[-1])})")

    def _selp(self, modifiers, to, x, y, which):
        dtype = modifiers[-1]
        return self._write(to, dtype, f"{self._read(which, 'pred')} ? {self._read(x, dtype)} : {self._read(y, dtype)}")

    def _setp(self, modifiers, to, x, y, with_=None):
        comparison, *combined, dtype = modifiers
        x, y = self._read(x, dtype), self._read(y, dtype)
        is_ordered = f"({x} == {x} && {y} == {y})"
        if comparison in ("num", "nan"):
            found = is_ordered if comparison == "num" else f"!{is_ordered}"
        elif dtype[0] != "f":
            found = f"({x} {COMPARISONS[comparison]} {y})"
        elif comparison in COMPARISONS:
            found = f"({is_ordered} && {x} {COMPARISONS[comparison]} {y})"
        else:
            found = f"(!{is_ordered} || {x} {COMPARISONS[comparison.removesuffix('u')]} {y})"
        self._only(combined, *LOGIC)
        if combined:
            found = f"(bool)({found} {LOGIC[combined[0]]} {self._read(with_, 'pred')})"
        code, (first, *others) = f"const bool x = {found};", to.split("|")
        return code + self._write(first, "pred", "x") + "".join(self._write(each, "pred", "!x") for each in others)

    def _cvt(self, modifiers, to, x):
        *about, dtype, from_ = modifiers
        value = self._read(x, from_)
        if from_[0] == "f" and dtype[0] != "f":
            return self._write(to, dtype, f"truncated<{C_TYPES[dtype]}>({value})") if about == ["rzi"] else None
        if about == ["rzi"]:
            return self._write(to, dtype, f"std::trunc({value})")
        self._only(about, *(["rn"] if dtype[0] == "f" else []))
        return self._write(to, dtype, f"({C_TYPES[dtype]}){value}")

    def _mov(self, modifiers, to, value):
        (dtype,) = modifiers
        if dtype == "pred":
            return self._write(to, dtype, self._read(value, dtype))
        if to.startswith("{"):
            parts = _vector(to, to.count(",") + 1)
            bits = int(dtype[1:]) // len(parts)
            code = f"const uint64_t x = {self._read(value, 'b' + dtype[1:])};"
            return code + "".join(self._write(part, f"b{bits}", f"x >> {bits * i}") for i, part in enumerate(parts))
        if value.startswith("{"):
            parts = _vector(value, value.count(",") + 1)
            bits = int(dtype[1:]) // len(parts)
            read = (f"(uint64_t){self._read(part, f'b{bits}')} << {bits * i}" for i, part in enumerate(parts))
            return self._write(to, "b" + dtype[1:], " | ".join(read))
        return self._write(to, dtype, self._read(value, dtype))

    # Warps

    def _shfl(self, modifiers, to, value, b, c, mask):
        _, mode, _ = modifiers
        value, b, c, mask = (self._read(each, "b32") for each in (value, b, c, mask))
        first, *others = to.split("|")
        return (
            f"bool is_in_range; const u32 x = t.shuffle(Shuffle::{mode}, {value}, {b}, {c}, {mask}, {self._site()}, "
            f"is_in_range); {self._write(first, 'b32', 'x')}"
            + "".join(self._write(each, "pred", "is_in_range") for each in others)
        )

    def _meet(self, mask: str, value: str) -> str:
        mask = self._read(mask, "u32")
        return f"const u32 mask = {mask}; const u32* const each = t.meet(mask, {value}, {self._site()});"

    def _redux(self, modifiers, to, value, mask):
        _, kind, dtype = modifiers
        together = {
            "add": "x + y",
            "min": "std::min(x, y)",
            "max": "std::max(x, y)",
            "and": "x & y",
            "or": "x | y",
            "xor": "x ^ y",
        }
        c_type = C_TYPES[dtype]
        return (
            f"{self._meet(mask, self._read(value, 'u32'))} {c_type} x = 0; bool is_first = true; "
            f"for (u32 i = 0; i < 32; ++i) if (mask >> i & 1) {{ const {c_type} y = ({c_type})each[i]; "
            f"x = is_first ? y : ({c_type})({together[kind]}); is_first = false; }} {self._write(to, dtype, 'x')}"
        )

    def _vote(self, modifiers, to, value, mask):
        _, kind, _ = modifiers
        code = (
            f"{self._meet(mask, self._read(value, 'pred'))} u32 x = 0; "
            "for (u32 i = 0; i < 32; ++i) if (mask >> i & 1) x |= (each[i] & 1) << i;"
        )
        if kind == "ballot":
            return code + self._write(to, "b32", "x")
        return code + self._write(to, "pred", {"any": "x != 0", "all": "x == mask"}[kind])

    def _matrix(self, modifiers, address, registers, kind):
        """The addresses of the rows of 8 x 8 matrices of 16 bits come from 8 lanes a matrix."""
        self._only(modifiers, "sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", "shared", "b16")
        parts = _vector(registers, registers.count(",") + 1)
        code = (
            f"u64 rows[32]; {{ const u32* each = t.meet(~0u, (u32)({self._address(address, 'shared')} - "
            f"(uint64_t)t.shared), {self._site()}); for (int i = 0; i < 32; ++i) rows[i] = (u64)t.shared + each[i]; }} "
            "const u32 lane = t.rank % 32;"
        )
        for matrix, register in enumerate(parts):
            site = self._site()
            begin = f"uint32_t x = {self._read(register, 'b32') if kind == 'kWrite' else '0'};"
            code += f" {{ {begin} for (u32 half = 0; half < 2; ++half) {{ "
            row, column = (
                ("2 * (lane % 4) + half", "lane / 4") if "trans" in modifiers else ("lane / 4", "2 * (lane % 4) + half")
            )
            code += "u16 y = u16(x >> 16 * half); "
            code += f"char* p = t.access({kind}, rows[{8 * matrix} + {row}] + 2 * ({column}), 2, {site}, &y); "
            if kind == "kWrite":
                code += "memcpy(p, &y, 2); } }"
            else:
                code += f"memcpy(&y, p, 2); x |= (u32)y << 16 * half; }} {self._write(register, 'b32', 'x')} }}"
        return code

    def _ldmatrix(self, modifiers, to, address):
        return self._matrix(modifiers, address, to, "kRead")

    def _stmatrix(self, modifiers, address, values):
        return self._matrix(modifiers, address, values, "kWrite")


def _c_name(name: str) -> str:
    return ("v_" if name.startswith("%") else "to_") + re.sub(r"\W", "_", name.lstrip("%"))


def _vector(text: str, count: int) -> list[str]:
    """The registers of a vector, or the one register."""
    found = [each.strip() for each in text[1:-1].split(",")] if text.startswith("{") else [text]
    if len(found) != count:
        raise Unknown(text)
    return found
