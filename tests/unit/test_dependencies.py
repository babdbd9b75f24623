"""What the project depends on: one version and one hash each, none that is excluded."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]


def pinned():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    rows = [line.split("#")[0].strip() for line in lines]
    return dict(row.split("==") for row in rows if row)


def test_every_constraint_is_one_version():
    for name, version in pinned().items():
        assert name, version
        Version(version)


def test_every_file_has_a_hash():
    """Of the versions that are pinned; torch names its build as well."""
    path = ROOT / "constraints-hashes.txt"
    rows = path.read_text(encoding="utf-8").splitlines()[1:]
    plain = {canonicalize_name(name): version for name, version in pinned().items()}
    assert len(rows) > 100
    for row in rows:
        named, digest = row.split(" --hash=sha256:")
        name, version = named.split("==")
        assert plain[canonicalize_name(name)] == version.removesuffix("+cpu"), row
        assert re.fullmatch("[0-9a-f]{64}", digest), row


def test_excluded_releases_of_lightning_cannot_come_in():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    told = [*project["project"]["dependencies"]]
    for extra in project["project"]["optional-dependencies"].values():
        told += extra
    named = [Requirement(each) for each in told]
    lightnings = [each for each in named if "lightning" in each.name]
    assert lightnings
    for each in lightnings:
        assert not {"2.6.2", "2.6.3"} & set(each.specifier.filter(["2.6.2", "2.6.3"]))
    for name in ("lightning", "pytorch-lightning"):
        assert pinned().get(name, "0") not in {"2.6.2", "2.6.3"}
