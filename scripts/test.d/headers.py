#!/usr/bin/env python3
"""Every header compiles alone; a room includes only the rooms and libraries it may. docs/ARCHITECTURE.md, section 3, says why."""
import concurrent.futures
import fnmatch
import functools
import os
import pathlib
import re
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
ALONE = TOP / "build/headers"  # a source for each header that includes it
ROOMS = ("base", "crypto", "config", "bpf", "maps", "worker", "ike", "pki", "resolver", "loader", "ios", "cli")
CHANNEL = ["worker/sa_channel.hpp", "worker/sa_state.hpp"]  # where ike, loader and worker meet
TABLES = ["crypto/transforms.hpp", "crypto/ah_transforms.hpp", "crypto/overhead.hpp"]  # of algorithms: they need no library
PKI = ["pki/questions.hpp", "pki/channel.hpp"]  # what ike and pki say to each other
RESOLVER = ["resolver/channel.hpp"]
# What posternd compiles and hands to postern-ike, and the types in it.
POLICY = ["ike/policy.hpp", "ike/protocol_options.hpp", "ike/client_configuration.hpp", "ike/policy_link.hpp", "ike/identity.hpp", "ike/negotiate.hpp"]

# Beside its own headers, a room includes what matches one of these, and no other file of this tree.
ALLOWED = {
    "base": [],
    "crypto": ["base/*"],
    "config": ["base/*", "crypto/packet_cipher.hpp", "crypto/dh.hpp", "crypto/prf.hpp", *TABLES],
    "bpf": ["maps/abi.h", "maps/abi_options.h"],
    "maps": ["base/*"],
    "worker": ["base/*", "crypto/*", "maps/*"],
    "ike": ["base/*", "config/*", "crypto/*", "maps/abi.h", *CHANNEL, *PKI, *RESOLVER],
    "pki": ["base/*", "crypto/*"],
    "resolver": ["base/*"],
    "loader": ["base/*", "config/*", "maps/*", "crypto/packet_cipher.hpp", *TABLES, *CHANNEL, *POLICY, "worker/loop_policy.hpp"],
    "ios": ["base/*"],
    "cli": ["base/*", "config/*", "ios/convert.hpp", "maps/abi.h", "maps/drops.hpp", "maps/counters.hpp", "worker/sa_channel.hpp"],
}

# A third-party library is used by these rooms alone; tests may use it to check them.
LIBRARIES = {
    "openssl/*": {"crypto"},
    "intel-ipsec-mb.h": {"crypto"},
    "bpf/bpf.h": {"maps", "loader"},
    "bpf/libbpf.h": {"maps", "loader"},
    "bpf/bpf_*": {"bpf"},
    "liburing.h": {"worker"},
    "zlib.h": {"worker"},
    "seccomp.h": {"base", "worker", "ike", "pki", "resolver", "loader"},
    "cap-ng.h": {"base", "worker", "loader"},
    "nlohmann/*": {"config", "ike", "pki", "resolver", "loader", "ios", "cli"},
    "valijson/*": {"config"},
    "netlink/*": {"loader"},
    "systemd/*": {"loader"},
    "spdlog/*": {"base", "loader"},
    "curl/*": {"resolver"},
    "CLI/*": {"loader", "worker", "ike", "cli"},
}
PACKAGES = ["libbpf", "liburing", "libcrypto", "libseccomp", "libsystemd", "libcap-ng", "libnl-route-3.0", "libcurl"]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def tracked(*patterns: str) -> list[str]:
    names = subprocess.run(["git", "ls-files", "--cached", "--", *patterns], cwd=TOP, check=True, capture_output=True, text=True).stdout
    return [name for name in names.split() if (TOP / name).exists()]


def forbidden(name: str, text: str) -> list[str]:
    """One message for each include in `text` that a file called `name` must not have."""
    room = name.split("/", 1)[0]
    found = []
    for _, target in INCLUDE.findall(text):
        other = target.split("/", 1)[0]
        # <bpf/...> is libbpf's: our own BPF headers are used by our BPF programs alone.
        library = next((pattern for pattern in LIBRARIES if fnmatch.fnmatch(target, pattern)), None)
        if library is not None and not (TOP / target).exists():
            if room in ROOMS and room not in LIBRARIES[library]:
                found.append(f"{name}: <{target}> is for {', '.join(sorted(LIBRARIES[library]))} alone")
        elif room in ROOMS and other in ROOMS and other != room:
            generated = room in ("maps", "loader") and target.endswith(".skel.h")
            if not generated and not any(fnmatch.fnmatch(target, pattern) for pattern in ALLOWED[room]):
                found.append(f"{name}: {room} must not include {target}")
        elif room in ROOMS and other == "tests":
            found.append(f"{name}: a room includes a test's {target}")
    return found


@functools.cache
def package_flags() -> list[str]:
    return subprocess.run(["pkg-config", "--cflags", *PACKAGES], check=True, capture_output=True, text=True).stdout.split()


def compiles_alone(name: str) -> str | None:
    """The compiler's words, or None when it is content. It makes an object that nobody needs: what ccache is to remember has to have one."""
    if name.startswith("bpf/"):  # libbpf asks its users to include the kernel's types first
        words, suffix = ["clang-19", "--target=bpf", "-O2", "-std=gnu11", "-I/usr/include/x86_64-linux-gnu", "-include", "linux/bpf.h"], "c"
    elif name.endswith(".h"):
        words, suffix = ["clang-19", "-std=gnu11"], "c"
    else:
        words, suffix = ["g++", "-std=c++23", "-Wextra", "-Wconversion", *package_flags()], "cpp"
    source = ALONE / f"{name}.{suffix}"
    source.parent.mkdir(parents=True, exist_ok=True)
    source.write_text(f'#include "{name}"\n#include "{name}"\n')
    done = subprocess.run(["ccache", *words, "-Wall", "-Werror", "-I", TOP, "-I", TOP / "build/release", "-c", source, "-o", f"{source}.o"],
                          cwd=TOP, text=True, capture_output=True, env={**os.environ, "CCACHE_BASEDIR": str(TOP), "CCACHE_NOHASHDIR": "1"})
    return None if done.returncode == 0 else f"{name} does not compile alone:\n{done.stderr.strip()}"


def self_test() -> list[str]:
    """The table refuses what it should: a check that cannot fail proves nothing."""
    bad = ['ike/x.cpp|#include "worker/sad.hpp"', 'worker/x.cpp|#include "ike/daemon.hpp"', 'config/x.cpp|#include <openssl/evp.h>',
           'ike/x.cpp|#include "maps/policy.hpp"', 'loader/x.cpp|#include "ike/session.hpp"', 'base/x.hpp|#include "crypto/packet_cipher.hpp"']
    good = ['crypto/x.cpp|#include <openssl/evp.h>', 'loader/x.cpp|#include "ike/policy_link.hpp"', 'loader/x.cpp|#include "worker/sa_channel.hpp"', 'maps/x.cpp|#include "maps/abi.h"']
    wrong = [case for case in bad if not forbidden(*case.split("|"))] + [case for case in good if forbidden(*case.split("|"))]
    return [f"check_headers itself is wrong about {case}" for case in wrong]


def main() -> int:
    names = sys.argv[1:] or tracked("*.hpp", "*.h", "*.cpp", "*.c")
    faults = self_test()
    for name in names:
        faults += forbidden(name, (TOP / name).read_text())
    headers = [name for name in names if name.endswith((".hpp", ".h"))]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        faults += [fault for fault in pool.map(compiles_alone, headers) if fault]
    print("\n".join(faults))
    print(f"check_headers: {len(names)} files, {len(headers)} headers compiled alone, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
