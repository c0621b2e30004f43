"""What each crate adds to the wasm module: python3 tools/size/crates.py target/wasm-bindgen/simd128.wasm

Sums the code by the first crate in every function's name, as wasm-bindgen wrote it (cargo xtask wasm keeps that
file; wasm-opt then inlines across crates and drops the names). The second column is that code by itself through
zlib. Generic functions of the standard library count for it, whichever crate's types they are made for; futures
that JavaScript awaits count for emberglass, which has no others.
"""

import re
import sys
import zlib
from collections import defaultdict


def number(data, at):
    """A LEB128 and where it ends."""
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def sections(data):
    at = 8
    while at < len(data):
        kind = data[at]
        size, at = number(data, at + 1)
        yield kind, data[at : at + size]
        at += size


def limits(data, at):
    flags, at = number(data, at)
    for _ in range(1 + (flags & 1)):
        _, at = number(data, at)
    return at


def imported_functions(section):
    count, at = number(section, 0)
    functions = 0
    for _ in range(count):
        for _ in range(2):
            length, at = number(section, at)
            at += length
        kind, at = section[at], at + 1
        if kind == 0:
            functions += 1
            _, at = number(section, at)
        elif kind == 1:
            at = limits(section, at + 1)
        elif kind == 2:
            at = limits(section, at)
        else:
            at += 2
    return functions


def bodies(section):
    count, at = number(section, 0)
    for _ in range(count):
        length, at = number(section, at)
        yield section[at : at + length]
        at += length


def function_names(section):
    names, at = {}, 0
    while at < len(section):
        kind = section[at]
        size, at = number(section, at + 1)
        if kind == 1:
            count, item = number(section, at)
            for _ in range(count):
                index, item = number(section, item)
                length, item = number(section, item)
                names[index] = section[item : item + length].decode("utf-8", "replace")
                item += length
        at += size
    return names


STANDARD = {"alloc", "compiler_builtins", "core", "dlmalloc", "std", "hashbrown", "foldhash"}


def crate_of(name):
    if "js_sys::futures::future_to_promise" in name:
        return "emberglass"
    # `<a::B as c::D>::e` and `a[hash]::b`; the first that is not the standard library's.
    crates = re.findall(r"(?<![\w:])([a-z_]\w*)(?:\[[0-9a-f]+\])?::", name)
    if not crates:
        return "wasm-bindgen's glue, C's math" if name else "no name"
    return next((crate for crate in crates if crate not in STANDARD), crates[0])


def main(path):
    data = open(path, "rb").read()
    imports, code, names, constants = 0, [], {}, b""
    for kind, section in sections(data):
        if kind == 2:
            imports = imported_functions(section)
        elif kind == 10:
            code = list(bodies(section))
        elif kind == 11:
            constants = section
        elif kind == 0 and section[1 : 1 + section[0]] == b"name":
            names = function_names(section[1 + section[0] :])
    crates = defaultdict(list)
    for index, body in enumerate(code):
        crates[crate_of(names.get(imports + index, ""))].append(body)
    rows = [(crate, b"".join(parts)) for crate, parts in crates.items()]
    rows += [("all code", b"".join(code)), ("constants of all crates", constants)]
    print(f"{'':32}{'bytes':>9}{'gzip':>9}")
    for crate, part in sorted(rows, key=lambda row: -len(row[1])):
        print(f"{crate:32}{len(part):9}{len(zlib.compress(part, 9)):9}")


main(sys.argv[1])
