"""Install the folder `bot/` as the package `noskgpt_bard`, with the data that a wheel carries.

`bot` is a common name, and two distributions that install it overwrite each other. All else about
the distribution is in `pyproject.toml`.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

FOLDER, INSTALLED_AS = "bot", "noskgpt_bard"

# At the top level of a checkout or beside its modules, inside the packages of a wheel.
BUNDLED = {
    "data/shakespeare.json": "noskgpt/bundled",
    "data/shakespeare.txt": "noskgpt/bundled",
    "weights.pth": "noskgpt/bundled",
    "bot/*.js": INSTALLED_AS,
    "locales/*.mo": f"{INSTALLED_AS}/locales",
    "migrations/*.sql": f"{INSTALLED_AS}/migrations",
}


class BuildWithData(build_py):
    """Build the packages, and copy the bundled data into them.

    An editable install copies nothing: its code finds the data at the top level.
    """

    def run(self) -> None:
        """Build into an empty folder.

        Raises:
            FileNotFoundError: A pattern of `BUNDLED` matches no file.
        """
        if self.editable_mode:
            super().run()
            return
        # An earlier build in this checkout left modules here that have since moved.
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        for pattern, package in BUNDLED.items():
            sources = sorted(Path().glob(pattern))
            if not sources:
                raise FileNotFoundError(f"No {pattern} in {Path.cwd()} to put into {package}")
            target = Path(self.build_lib, package)
            target.mkdir(parents=True, exist_ok=True)
            for source in sources:
                self.copy_file(source, target / source.name)


setup(
    packages=[
        *find_packages(include=["noskgpt", "noskgpt.*"]),
        *(
            INSTALLED_AS + package.removeprefix(FOLDER)
            for package in find_packages(include=[FOLDER, f"{FOLDER}.*"])
        ),
    ],
    package_dir={INSTALLED_AS: FOLDER},
    cmdclass={"build_py": BuildWithData},
)
