"""asv's page over some commits, in one folder that needs no network and no server.

    make dashboard                       # measures the last three commits that changed the package, where not yet done
    make dashboard ARGS="--commits 10 --bench forward"
    make dashboard ARGS="--publish-only"

asv's page loads its scripts from elsewhere. Here they come from PyPI (the group `dashboard` of pyproject.toml, in
.venv/dashboard) and from benches/www, and the page's data become a script too: open .asv/html/index.html.
"""

import argparse
import json
import re
import shutil
import sys
from pathlib import Path

import compare

ROOT = Path(__file__).parents[1]
WWW = Path(__file__).with_name("www")
PACKAGES = ROOT / ".venv" / "dashboard" / "js"
# What the package is built from: other commits have the same speed.
SOURCES = ("Cargo.lock", "Cargo.toml", "python", "rust")
# The name of a script on asv's page -> where it is here.
VENDORED = {
    "jquery": PACKAGES / "jquery" / "resources" / "jquery-3.6.1.min.js",
    "jquery.flot": PACKAGES / "jquery_flot" / "resources" / "jquery.flot.min.js",
    "jquery.flot.time": PACKAGES / "jquery_flot" / "resources" / "jquery.flot.time.min.js",
    "jquery.flot.selection": PACKAGES / "jquery_flot" / "resources" / "jquery.flot.selection.min.js",
    "jquery.flot.categories": PACKAGES / "jquery_flot" / "resources" / "jquery.flot.categories.min.js",
    "jquery.flot.orderBars": WWW / "page.js",  # it comes after all of flot; md5 is in it too
    "stupidtable": WWW / "stupidtable.min.js",
    "md5": None,
    "bootstrap": PACKAGES / "bootstrap" / "resources" / "js" / "bootstrap.min.js",
}
STYLE = PACKAGES / "bootstrap" / "resources" / "css" / "bootstrap.min.css"
ELEMENT = re.compile(r'<script src="https?://[^"]*/([^"/]+?)(?:-[\d.]+)?(?:\.min)?\.js"[^>]*></script>')
LINK = re.compile(r'<link rel="stylesheet" href="https?://[^"]*/bootstrap\.min\.css"[^>]*>')


def vendor(html: Path) -> None:
    """Makes the page stand alone."""
    folder = html / "vendor"
    folder.mkdir(exist_ok=True)

    def local(found: re.Match[str]) -> str:
        source = VENDORED[found.group(1)]
        if source is None:
            return ""
        shutil.copy(source, folder)
        return f'<script src="vendor/{source.name}"></script>'

    page = html / "index.html"
    text = LINK.sub(f'<link rel="stylesheet" href="vendor/{STYLE.name}">', ELEMENT.sub(local, page.read_text()))
    shutil.copy(STYLE, folder)
    left = re.findall(r'(?:src|href)="(https?://[^"]+\.(?:js|css))"', text)
    if left:
        raise SystemExit(f"asv's page loads what benches/dashboard.py does not know: {', '.join(left)}")
    files = {path.relative_to(html).as_posix(): json.loads(path.read_text()) for path in html.rglob("*.json")}
    (html / "data.js").write_text(f"window.asvFiles = {json.dumps(files)};\n")
    page.write_text(text.replace("<script", '<script src="data.js"></script>\n    <script', 1))


def main() -> int:
    """Measures, publishes, vendors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commits", type=int, default=3, help="how many commits that changed the package (default: 3)")
    parser.add_argument("--bench", default=".", help="regular expression of benchmarks (default: all)")
    parser.add_argument("--publish-only", action="store_true", help="measure nothing")
    options = parser.parse_args()
    config = compare.configure(ROOT / ".asv" / "dashboard")
    if not options.publish_only:
        commits = compare.git("log", f"-{options.commits}", "--format=%H", "--", *SOURCES)
        hashes = config.with_name("commits")
        hashes.write_text(commits + "\n")
        compare.asv("machine", "--yes", "--config", str(config))
        code, _ = compare.asv(
            *("run", "--config", str(config), "--skip-existing-successful", "--show-stderr"),
            *("--bench", options.bench, "--attribute", "rounds=1", f"HASHFILE:{hashes}"),
        )
        if code != 0:
            print("asv run failed")
            return 1
    code, _ = compare.asv("publish", "--config", str(config))
    if code != 0:
        return 1
    html = Path(json.loads(config.read_text())["html_dir"])
    vendor(html)
    print(html / "index.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
