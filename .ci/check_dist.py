"""Check what would be published: python .ci/check_dist.py FOLDER, with one sdist and one wheel.

The wheel was built from the sdist, as ``python -m build`` does, so each file in it has gone
through both. Both must hold the package, the studies, the embedded data and the licence as they
are in this checkout, byte for byte, and nothing else that lies about.
"""

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKED = ("swissprot-sample.tsv.gz", "ec-classes.tsv", "ec-transfers.tsv", "README.md")
"""What a wheel holds of ``data``."""
BESIDE = {"README.md", "LICENSE", "pyproject.toml", ".gitignore", "PKG-INFO"}
"""What an sdist holds beside its folders."""


def main() -> None:
    """Check both; an assertion says what is wrong."""
    (folder,) = map(Path, sys.argv[1:])
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    package, sweeps = files("ec_sweep"), files("sweeps")
    data = {f"data/{path.name}": path for path in (ROOT / "data").iterdir() if path.is_file()}
    assert "ec_sweep/py.typed" in package

    found = in_sdist(sdist)
    assert found.keys() >= BESIDE, BESIDE - found.keys()
    beside = {name: ROOT / name for name in BESIDE - {"PKG-INFO"}}
    found.pop("PKG-INFO")
    compare(found, package | sweeps | data | beside)

    found = in_wheel(wheel)
    metadata = {name for name in found if name.split("/")[0].endswith(".dist-info")}
    assert {name.partition("/")[2] for name in metadata} >= {"licenses/LICENSE", "METADATA"}
    packed = sweeps | {f"data/{name}": data[f"data/{name}"] for name in PACKED}
    inside = {f"ec_sweep/packed/{name}": path for name, path in packed.items()}
    compare({name: found[name] for name in found.keys() - metadata}, package | inside)
    print(f"{sdist.name}, {wheel.name}: {len(package)} files of the package, {len(sweeps)} studies")


def files(folder: str) -> dict[str, Path]:
    """Return the files below a folder of this checkout, without what Python leaves there."""
    found = (path for path in (ROOT / folder).rglob("*") if path.is_file())
    return {str(p.relative_to(ROOT)): p for p in found if "__pycache__" not in p.parts}


def in_sdist(path: Path) -> dict[str, bytes]:
    """Return the files of an sdist by name, below its one folder."""
    found = {}
    with tarfile.open(path) as sdist:
        for member in sdist.getmembers():
            file = sdist.extractfile(member)
            assert file, f"{member.name} is no plain file"
            found[member.name.partition("/")[2]] = file.read()
    return found


def in_wheel(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel by name."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist()}


def compare(found: dict[str, bytes], expected: dict[str, Path]) -> None:
    """Both have the same names, and each name the same bytes."""
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    changed = [name for name, path in expected.items() if found[name] != path.read_bytes()]
    assert not changed, changed


if __name__ == "__main__":
    main()
