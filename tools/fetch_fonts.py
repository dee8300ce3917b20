"""Put the fonts documents are set in into the environment, from Debian's packages, if the system has none (make setup).

Needs no root: `apt-get download` and `dpkg-deb -x` into a temporary folder. Where that is impossible it says what to do,
and everything but issuing documents works without.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from node_agent.certificates import fonts

PACKAGES = {
    "fonts-noto-cjk": ("NotoSerifCJK-Regular.ttc", "NotoSerifCJK-Bold.ttc"),
    "fonts-babelstone-han": ("BabelStoneHan.ttf",),
    "fonts-hanazono": ("HanaMinA.ttf", "HanaMinB.ttf"),
}
WHAT_TO_DO = (
    "无法取得字体：请安装 {packages}，或以设置项 fonts 指定字体文件夹；其余功能不受影响\n"
    "could not fetch fonts: install {packages}, or name a folder with the setting `fonts`; all but documents works without"
)


def download(package: str, folder: Path) -> None:
    """Fetch one package; where the package lists are empty, read them once into a folder of our own."""
    command = ["apt-get", "-qq", "download", package]
    if subprocess.run(command, check=False, cwd=folder, capture_output=True).returncode == 0:
        return
    state, cache = folder / "state", folder / "cache"
    for one in (state / "lists/partial", cache / "archives/partial"):
        one.mkdir(parents=True, exist_ok=True)
    own = ["-o", f"Dir::State::Lists={state / 'lists'}", "-o", f"Dir::Cache={cache}"]
    if not any((state / "lists").glob("*Packages*")):
        subprocess.run(["apt-get", "-qq", *own, "update"], cwd=folder, check=True, capture_output=True)
    subprocess.run(["apt-get", "-qq", *own, "download", package], cwd=folder, check=True, capture_output=True)


def main() -> int:
    found = fonts.find()
    wanted = [package for package, files in PACKAGES.items() if any(name not in found for name in files)]
    if not wanted:
        return 0
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for package in wanted:
                download(package, folder)
            for archive in folder.glob("*.deb"):
                subprocess.run(["dpkg-deb", "-x", archive, folder / "unpacked"], check=True)
            fonts.OWN_FOLDER.mkdir(parents=True, exist_ok=True)
            for package in wanted:
                for file in PACKAGES[package]:
                    source = next((folder / "unpacked").rglob(file))
                    shutil.copyfile(source, fonts.OWN_FOLDER / f"{file}.part")
                    (fonts.OWN_FOLDER / f"{file}.part").rename(fonts.OWN_FOLDER / file)
    except (OSError, subprocess.CalledProcessError, StopIteration):
        print(WHAT_TO_DO.format(packages=" ".join(wanted)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
