"""Hazard: what comes with the package: its dependencies, what the linker made, what the wheel holds."""

import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import softmax_rs

ROOT = Path(__file__).parent.parent
# A new dependency is a decision: these numbers and names change in the commit that takes it.
MOST_PACKAGES = 40
DIRECT = {"half", "libc", "numpy", "pyo3", "rayon", "softmax-core"}
# What the extension may load: nothing that a Linux with glibc does not have. (Not libpython: it is loaded already.)
LIBRARIES = r"(libc|libm|libdl|libpthread|librt|libgcc_s|ld-linux-[a-z0-9-]+)\.so\.\d+"


def toml(path):
    return tomllib.loads((ROOT / path).read_text())


def packages():
    return toml("Cargo.lock")["package"]


def test_number_of_packages():
    """Cargo.lock holds at most so many, all of crates.io and with their checksums, but our own."""
    print(f"\n{len(packages())} packages in Cargo.lock, {len(DIRECT)} of them direct")
    assert len(packages()) <= MOST_PACKAGES, sorted(p["name"] for p in packages())
    for package in packages():
        ours = package["name"] in ("softmax-core", "softmax-python")
        source = package.get("source", "")
        assert ours or source == "registry+https://github.com/rust-lang/crates.io-index", package
        assert ours or re.fullmatch("[0-9a-f]{64}", package["checksum"]), package


def manifests():
    return {path.parent.name: toml(path.relative_to(ROOT)) for path in sorted((ROOT / "rust").glob("*/Cargo.toml"))}


def test_direct_dependencies():
    """These and no others, none to build or test with, no build script, no feature that a user could turn on."""
    found = set()
    for name, manifest in manifests().items():
        tables = [manifest, *manifest.get("target", {}).values()]
        for table in tables:
            found |= set(table.get("dependencies", {}))
            assert not {"build-dependencies", "dev-dependencies"} & set(table), name
        assert "build" not in manifest["package"] and "features" not in manifest, name
    assert found == DIRECT
    assert not list((ROOT / "rust").rglob("build.rs"))
    assert importlib.metadata.requires("softmax-rs") == ["numpy>=1.26", "ml-dtypes>=0.4 ; extra == 'bfloat16'"]


def test_every_unsafe_block_must_be_explained():
    """The lint is on in every crate, warnings are errors in `make check`, and nothing in the sources turns it off."""
    lints = toml("Cargo.toml")["workspace"]["lints"]
    assert lints["clippy"]["undocumented_unsafe_blocks"] in ("warn", "deny", "forbid")
    assert lints["rust"]["unsafe_op_in_unsafe_fn"] == "forbid"
    assert all(manifest["lints"] == {"workspace": True} for manifest in manifests().values())
    assert re.search(r"cargo clippy .*--workspace --all-targets -- -D warnings", (ROOT / "Makefile").read_text())
    blocks = 0
    for path in (ROOT / "rust").rglob("*.rs"):
        text = path.read_text()
        assert "undocumented_unsafe_blocks" not in text, f"{path} speaks of the lint"
        blocks += len(re.findall(r"unsafe (?:\{|impl)", text))
    assert blocks > 100, "the sources were not found"
    print(f"\n{blocks} unsafe blocks and impls, each with a SAFETY line by clippy's undocumented_unsafe_blocks")


def readelf(*options):
    """Return what readelf says of the extension module."""
    if sys.platform != "linux":
        pytest.skip("the extension is an ELF file on Linux only")
    if shutil.which("readelf") is None:
        pytest.skip("NOT RUN: there is no readelf here (install binutils)")
    file = importlib.util.find_spec("softmax_rs._softmax_rs").origin
    return subprocess.run(
        [shutil.which("readelf"), "-W", *options, file], capture_output=True, text=True, check=True
    ).stdout


def faults(segments, dynamic):
    """Return what is wrong with a library, from its program headers and its dynamic section."""
    wrong = []
    stack = re.findall(r"GNU_STACK\s+(?:0x[0-9a-f]+\s+){5}([RWE ]+?)\s+(?:0x)?[0-9a-f]+\n", segments)
    if stack != ["RW"]:
        wrong.append(f"the stack is executable, or nobody says: {stack}")
    if re.search(r"^  LOAD .* (RWE|WE) ", segments, re.MULTILINE):
        wrong.append("a segment can be written and executed")
    if "GNU_RELRO" not in segments or not re.search(r"\(FLAGS\).*BIND_NOW|\(BIND_NOW\)|\(FLAGS_1\).*NOW", dynamic):
        wrong.append("the tables of the linker stay writeable (no full RELRO)")
    wrong += re.findall(r"\((?:RPATH|RUNPATH|TEXTREL)\).*", dynamic)
    needed = re.findall(r"\(NEEDED\).*\[(.+)\]", dynamic)
    wrong += [f"needs {library}" for library in needed if not re.fullmatch(LIBRARIES, library)]
    return wrong


def test_hardening():
    """No executable stack, full RELRO, no search path, no text relocation, no library but the system's."""
    assert faults(readelf("-l"), readelf("-d")) == []


def test_the_check_of_hardening_sees(tmp_path):
    """A library that is all wrong is found to be."""
    readelf("-h")
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("NOT RUN: no C compiler to make a bad library with")
    (tmp_path / "bad.c").write_text("int f(void) { return 1; }")
    bad = tmp_path / "bad.so"
    flags = ("-shared", "-fPIC", "-Wl,-z,execstack,-z,lazy,-z,norelro,-rpath,/tmp", "-Wl,--no-as-needed", "-lutil")
    subprocess.run([compiler, *flags, tmp_path / "bad.c", "-o", bad], check=True)

    def of(option):
        return subprocess.run(["readelf", "-W", option, bad], capture_output=True, text=True, check=True).stdout  # noqa: S607

    found = faults(of("-l"), of("-d"))
    assert [word for word in ("stack", "RELRO", "PATH") if not any(word in fault for fault in found)] == [], found


def test_symbols():
    """The module exports one name; which glibc it needs is printed."""
    names = readelf("--dyn-syms")
    exported = [line.split()[-1] for line in names.splitlines() if re.search(r"GLOBAL +DEFAULT +\d+ ", line)]
    assert exported == ["PyInit__softmax_rs"], exported
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_([0-9.]+)", readelf("-V"))}
    tags = importlib.metadata.distribution("softmax-rs").read_text("WHEEL")
    promised = re.findall(r"manylinux_(\d+)_(\d+)", tags)
    print(f"\nneeds glibc {'.'.join(map(str, max(versions)))}; the wheel's tag says {promised or 'nothing'}")
    # The tag of a wheel is what pip goes by.
    assert all(max(versions) <= tuple(map(int, tag)) for tag in promised)


def test_sbom():
    """The wheel has a list of what was compiled into it, CycloneDX, with the versions of Cargo.lock."""
    files = importlib.metadata.files("softmax-rs")
    lists = [file for file in files if ".dist-info/sboms/" in str(file) and file.name.endswith(".cyclonedx.json")]
    assert len(lists) == 1, [str(file) for file in files]
    sbom = json.loads(lists[0].read_text())
    assert sbom["bomFormat"] == "CycloneDX"
    found = {(part["name"], part["version"]) for part in sbom["components"]}
    locked = {(package["name"], package["version"]) for package in packages()}
    assert found <= locked, found - locked
    assert set(DIRECT) <= {name for name, _ in found}, found


def test_what_a_wheel_holds():
    """The extension, the few files in Python, metadata, both licences; and nobody's home."""
    files = {str(file) for file in importlib.metadata.files("softmax-rs") if "__pycache__" not in str(file)}
    package = {file for file in files if file.startswith("softmax_rs/")}
    extension = Path(importlib.util.find_spec("softmax_rs._softmax_rs").origin).name
    python = {"__init__.py", "_fallback.py", "_softmax_rs.pyi", "py.typed", extension}
    assert package == {f"softmax_rs/{name}" for name in python}
    rest = {re.sub(r".*\.dist-info/", "", file) for file in files - package}
    assert {"licenses/LICENSE-MIT", "licenses/LICENSE-APACHE", "METADATA", "RECORD", "WHEEL"} <= rest
    assert softmax_rs.__version__ == toml("Cargo.toml")["workspace"]["package"]["version"]


def test_policy_of_dependencies():
    """deny.toml refuses other licences, other registries, git, wildcards and second versions."""
    deny = toml("deny.toml")
    assert deny["sources"] == {"unknown-registry": "deny", "unknown-git": "deny"}
    assert deny["bans"]["multiple-versions"] == "deny" and deny["bans"]["wildcards"] == "deny"
    assert not [licence for licence in deny["licenses"]["allow"] if "GPL" in licence]
    versions = [package["name"] for package in packages()]
    skipped = {skip["crate"].split("@")[0] for skip in deny["bans"].get("skip", [])}
    assert {name for name in versions if versions.count(name) > 1} <= skipped
