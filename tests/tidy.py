#!/usr/bin/env python3
"""House rules that a machine can decide: who may include what, what each archive may need, banned calls, sizes.

Goal: the picture in docs/architecture.md stays true. Method: an include scan over the sources and `nm -u` over the
built archives. `--self-test` plants one violation of each rule in a copy of a small tree and expects it found.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile

ROOMS = {"base": {"base"}, "algo": {"base", "algo"}, "net": {"base", "net"}, "agent": {"base", "algo", "net", "agent"}}

# header -> files that may include it
FOREIGN = {
    "uv.h": r"net/uv/\w+\.[ch]|agent/(launcher|control|daemon|doctor)/\w+\.[ch]|agent/command/(up|status|fault|doctor)\.c",
    "cblas.h": r"algo/vec_blas\.c",
    "msgpack.h": r"agent/wire/\w+\.[ch]",
    "openssl/": r"net/(tls|identity)\.c|agent/simulation/trace_hash\.c|agent/state/checkpoint\w*\.c",
}

# Files that must not reach the world. The exceptions are named file.c (they read a text file).
PURE = (r"(base|algo)/.*|net/transport\.[ch]|net/(link|sim|membership|overlay|fault|relay)/\w+\.[ch]|net/discovery/(discovery|beacon)\.[ch]|"
        r"agent/(node|wire|transfer)/\w+\.[ch]|agent/state/address_book\.[ch]|agent/control/invite\.[ch]")
IMPURE_CALLS = (r"\b(time|clock|clock_gettime|gettimeofday|rand|srand|random|fopen|open|socket|connect|bind|listen|"
                r"pthread_\w+|usleep|sleep|nanosleep|getenv|system)\s*\(")
IMPURE_EXCEPT = r"algo/\w+/file\.c"

BANNED = {
    "sprintf": "snprintf", "strcpy": "snprintf or memcpy", "strcat": "snprintf", "gets": "fgets", "atoi": "strtol",
    "atof": "strtod", "rand": "prng_next", "strtok": "strchr", "alloca": "mem_new", "malloc": "mem_new",
}
BANNED_EXCEPT = {"malloc": r"base/check\.c"}

# Symbols an archive may not need, whatever the sources look like.
FORBIDDEN_SYMBOLS = {
    "base": r"^(uv_|time$|clock|gettimeofday|s?rand$|random$|socket|connect$|pthread_create|open$|fopen)",
    "algo": r"^(uv_|time$|clock|gettimeofday|s?rand$|random$|socket|connect$|pthread_create|open$|msgpack|SSL_|EVP_)",
    "net": r"^(cblas_|msgpack|SSL_|EVP_|time$|s?rand$|random$)",
}

LINE_MAX, FUNCTION_MAX, FILE_MAX = 120, 70, 520


def sources(root):
    for room in ROOMS:
        yield from sorted((root / room).rglob("*.[ch]"))


def strip_comments(text):
    text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group().count("\n"), text, flags=re.S)
    text = re.sub(r"//[^\n]*", "", text)
    return re.sub(r'"(\\.|[^"\\\n])*"', '""', text)


def check_includes(name, text):
    room = name.split("/")[0]
    for number, line in enumerate(text.splitlines(), 1):
        ours = re.match(r'\s*#\s*include\s*"([^"]+)"', line)
        if ours and ours.group(1).split("/")[0] not in ROOMS[room]:
            yield f"{name}:{number}: {room}/ must not include {ours.group(1)}"
        for header, allowed in FOREIGN.items():
            if re.match(rf"\s*#\s*include\s*[<\"]{re.escape(header)}", line) and not re.fullmatch(allowed, name):
                yield f"{name}:{number}: {header} may be included only by {allowed}"


def check_calls(name, code):
    for number, line in enumerate(code.splitlines(), 1):
        if re.match(r"\s*#", line):
            continue
        if re.fullmatch(PURE, name) and not re.fullmatch(IMPURE_EXCEPT, name):
            found = re.search(IMPURE_CALLS, line)
            if found and not re.search(r"(->|\.)" + re.escape(found.group(1)) + r"\s*\(", line):
                yield f"{name}:{number}: {found.group(1)}() in a pure file"
        for call, better in BANNED.items():
            if re.search(rf"(?<![\w.>]){call}\s*\(", line) and not re.fullmatch(BANNED_EXCEPT.get(call, "$"), name):
                yield f"{name}:{number}: {call}() is banned, use {better}"


def check_sizes(name, text):
    lines = text.splitlines()
    if len(lines) > FILE_MAX:
        yield f"{name}: {len(lines)} lines, at most {FILE_MAX}"
    start = None
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_MAX:
            yield f"{name}:{number}: {len(line)} columns, at most {LINE_MAX}"
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            if number - start > FUNCTION_MAX:
                yield f"{name}:{start}: a function of {number - start} lines, at most {FUNCTION_MAX}"
            start = None


def check_symbols(build, room, nm=None):
    if nm is None:
        archive = build / f"lib{room}.a"
        if not archive.exists():
            yield f"{archive} is missing"
            return
        nm = subprocess.run(["nm", "-u", str(archive)], capture_output=True, text=True, check=True).stdout
    for symbol in sorted(set(re.findall(r"^\s+U (\w+)", nm, flags=re.M))):
        if re.search(FORBIDDEN_SYMBOLS[room], symbol):
            yield f"lib{room}.a needs {symbol}"


def check_tests(root):
    """No header of algo/ or net/ is an orphan: some source or test includes it."""
    text = "".join(p.read_text() for p in (root / "tests").rglob("*.[ch]"))
    for path in sorted(list((root / "algo").rglob("*.h")) + list((root / "net").rglob("*.h"))):
        name = path.relative_to(root).as_posix()
        used = any(f'"{name}"' in p.read_text() for p in sources(root))
        if f'"{name}"' not in text and not used:
            yield f"{name}: neither used nor tested"


def check_tree(root):
    for path in sources(root):
        name = path.relative_to(root).as_posix()
        text = path.read_text()
        yield from check_includes(name, text)
        yield from check_calls(name, strip_comments(text))
        yield from check_sizes(name, text)
    yield from check_tests(root)


PLANTED = {
    "base/a.c": '#include "algo/step.h"\n',
    "algo/b.c": '#include "net/transport.h"\n',
    "net/c.c": '#include "algo/step.h"\n',
    "net/link/conn.c": "#include <uv.h>\n",
    "algo/d.c": "int f(void)\n{\n    return (int)time(0);\n}\n",
    "agent/node/node.c": "void g(void)\n{\n    sleep(1);\n}\n",
    "agent/e.c": "#include <openssl/evp.h>\n",
    "agent/f.c": "#include <msgpack.h>\n",
    "agent/g.c": "void h(char *s)\n{\n    strcpy(s, s);\n}\n",
    "agent/h.c": "int x; /* " + "long " * 30 + "*/\n",
    "agent/i.c": "int y;\n" * (FILE_MAX + 1),
    "agent/j.c": "void k(void)\n{\n" + "    ;\n" * (FUNCTION_MAX + 1) + "}\n",
    "algo/orphan.h": "int orphan(void);\n",
}


def self_test():
    missed = []
    for name, text in PLANTED.items():
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for room in list(ROOMS) + ["tests"]:
                (root / room).mkdir()
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
            if not list(check_tree(root)):
                missed.append(name)
    for room, symbol in (("base", "uv_now"), ("algo", "clock_gettime"), ("net", "cblas_sgemm")):
        if not list(check_symbols(None, room, nm=f"                 U {symbol}\n")):
            missed.append(f"lib{room}.a: {symbol}")
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for room in list(ROOMS) + ["tests"]:
            (root / room).mkdir()
        (root / "agent/clean.c").write_text('#include "algo/step.h"\n/* time() in words only */\n')
        if list(check_tree(root)):
            missed.append("a clean tree is accused")
    for name in missed:
        print(f"planted violation not found: {name}")
    print(f"{len(PLANTED) + 4} planted cases, {len(missed)} missed")
    return 1 if missed else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=pathlib.Path)
    parser.add_argument("--build", type=pathlib.Path)
    parser.add_argument("--self-test", action="store_true")
    options = parser.parse_args()
    if options.self_test:
        return self_test()
    found = list(check_tree(options.source))
    for room in FORBIDDEN_SYMBOLS:
        found += list(check_symbols(options.build, room))
    print("\n".join(found) if found else "tidy")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
