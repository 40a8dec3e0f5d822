"""What pyproject.toml cannot say: the wheel carries the checkpoint and the notebooks.

`data/docbert` and `notebooks/` lie outside the package; a wheel takes them along under
`cookbook/_shipped`, where `cookbook.shipped.folder` finds them when there is no checkout.
An editable install reads them in place and copies nothing.
"""

import runpy
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SHIPPED = runpy.run_path(str(ROOT / "cookbook" / "shipped.py"))["SHIPPED"]


class BuildWithShipped(build_py):
    """`build_py`, and then the folders that ship."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for name, folder in SHIPPED.items():
                self.ship(ROOT / folder, Path(self.build_lib) / "cookbook" / "_shipped" / name)

    def ship(self, source: Path, target: Path) -> None:
        if not source.is_dir():
            raise SystemExit(f"no wheel without {source.relative_to(ROOT)}: see `make help`")
        ignored = shutil.ignore_patterns("*.py", "build", ".*", "__pycache__", "*.partial.ipynb")
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target, ignore=ignored)


setup(cmdclass={"build_py": BuildWithShipped})
