import subprocess
import sys

from project import ROOT

from cola.core import claims


def test_what_a_process_claims_is_its_own_until_it_gives_it_back_or_ends(tmp_path):
    code = (
        "import sys\nfrom pathlib import Path\nfrom cola.core import claims\n"
        "print(claims.claim('core-1', Path(sys.argv[1])), flush=True)\ninput()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "True\n"
    assert not claims.claim("core-1", tmp_path)
    assert claims.claim("core-0", tmp_path)
    assert not claims.claim("core-0", tmp_path)
    assert claims.unclaimed(["core-0", "core-1", "core-2"], tmp_path) == ["core-2"]
    claims.release("core-0", tmp_path)
    other.kill()
    other.wait()
    assert claims.unclaimed(["core-0", "core-1", "core-2"], tmp_path) == ["core-0", "core-1", "core-2"]
