#!/usr/bin/env python3
"""Install the libtorch that `tch` links against, from PyPI, as wheels whose versions and hashes are pinned.

Prints the folder to use as LIBTORCH on standard output, everything else on standard error.

    scripts/libtorch.py            CPU libraries, or the CUDA ones where there is an NVIDIA GPU
    scripts/libtorch.py cpu|cuda   that flavour

The `torch` wheel on PyPI is the CUDA build: about 5 GB once its dependencies are installed. The CPU
libraries in it need only two small NVIDIA wheels, so the `cpu` flavour takes those three wheels
(0.55 GB to fetch, 0.5 GB on disk) and leaves the CUDA libraries out.
"""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "2.13.0"
REQUIREMENTS = pathlib.Path(__file__).resolve().parent / "requirements"
CPU_LIBRARIES = ("libtorch_cpu.so", "libc10.so", "libgomp.so.1")
CUDA_STUBS = ("libcudart.so.13", "libcupti.so.13")


def log(message):
    print(f"libtorch: {message}", file=sys.stderr, flush=True)


def run(*command):
    subprocess.run(command, check=True, stdout=sys.stderr)


def pip(verb, flavour, *arguments):
    """Have pip fetch the wheels of a flavour, and nothing that is not pinned."""
    run(sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes",
        "--requirement", str(REQUIREMENTS / f"libtorch-{flavour}.txt"), *arguments)


def has_gpu():
    return shutil.which("nvidia-smi") is not None and subprocess.run(
        ["nvidia-smi", "-L"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ).returncode == 0


def extract(wheel, wanted, rename):
    """Unpack the members of `wheel` for which `wanted` holds to the path `rename` gives."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if member.is_dir() or not wanted(member.filename):
                continue
            target = rename(member.filename)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)


def install_cpu(folder):
    wheels = folder / "wheels"
    pip("download", "cpu", "--dest", str(wheels))
    lib = folder / "lib"
    for wheel in wheels.iterdir():
        if wheel.name.startswith("torch-"):
            extract(wheel, lambda name: name.startswith("torch/include/"),
                    lambda name: folder / pathlib.PurePosixPath(name).relative_to("torch"))
            extract(wheel, lambda name: pathlib.PurePosixPath(name).name in CPU_LIBRARIES,
                    lambda name: lib / pathlib.PurePosixPath(name).name)
        else:
            extract(wheel, lambda name: pathlib.PurePosixPath(name).name in CUDA_STUBS,
                    lambda name: lib / pathlib.PurePosixPath(name).name)
    missing = [name for name in CPU_LIBRARIES + CUDA_STUBS if not (lib / name).exists()]
    if missing:
        sys.exit(f"libtorch: the wheels of torch {VERSION} no longer hold {', '.join(missing)}")
    # The wheel's own libtorch.so is an empty library that names the CUDA ones.
    run("cc", "-shared", "-o", str(lib / "libtorch.so"), "-Wl,-soname,libtorch.so", "-Wl,--no-as-needed",
        "-x", "c", "/dev/null", f"-L{lib}", "-ltorch_cpu", "-lc10",
        "-Wl,--allow-shlib-undefined", "-Wl,-rpath,$ORIGIN")
    (folder / "build-version").write_text(f"{VERSION}+cpu\n")
    shutil.rmtree(wheels)
    return folder


def install_cuda(folder):
    pip("install", "cuda", "--target", str(folder))
    return folder / "torch"


def main():
    given = os.environ.get("LIBTORCH")
    if given:
        log(f"using LIBTORCH={given}")
        print(given)
        return
    flavour = sys.argv[1] if len(sys.argv) > 1 else "auto"
    if flavour not in ("auto", "cpu", "cuda"):
        sys.exit(f"libtorch: flavour is auto, cpu or cuda, not {flavour!r}")
    if flavour == "auto":
        flavour = "cuda" if has_gpu() else "cpu"
    cache = pathlib.Path(os.environ.get("COUNTERWEIGHT_CACHE")
                         or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "counterweight")
    home = cache / f"libtorch-{VERSION}-{flavour}"
    root = home if flavour == "cpu" else home / "torch"
    if not home.exists():
        log(f"installing torch {VERSION} ({flavour}) from PyPI into {home}")
        cache.mkdir(parents=True, exist_ok=True)
        staging = pathlib.Path(tempfile.mkdtemp(prefix="libtorch-", dir=cache))
        try:
            {"cpu": install_cpu, "cuda": install_cuda}[flavour](staging)
            staging.chmod(0o755)
            staging.rename(home)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
    print(root)


if __name__ == "__main__":
    main()
